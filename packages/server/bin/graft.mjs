#!/usr/bin/env node
import * as module from 'node:module';

module.enableCompileCache?.(); // Node 22 has it: later starts need not compile the packages again
const { runCli } = await import('../dist/cli/main.js');
process.exit(await runCli(process.argv.slice(2)));
