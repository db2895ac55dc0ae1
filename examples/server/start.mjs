#!/usr/bin/env node
// What `npm start` runs: the default model on http://127.0.0.1:8000, with this folder's plugins (package.json, graft.plugins).
// Further flags go to `graft serve`: `npm start -- --port 9000 --platform hpu`, `npm start -- --help`.
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runCli } from '@graft/server';

const here = dirname(fileURLToPath(import.meta.url));
const port = process.env.PORT === undefined ? [] : ['--port', process.env.PORT];
process.exit(await runCli(['serve', '--app', here, ...port, ...process.argv.slice(2)]));
