import { GraftError, nowText } from '@graft/common';
import { type Owner, ownerText } from '@graft/services';
import semver from 'semver';
import { loadManifest, ManifestChain, type ManifestMember, type UpstreamManifest } from './manifest.ts';
import { parseMethod, sameParameters } from './method-name.ts';
import type { AnyClass, InspectableModel } from './model.ts';
import { findAttribute, matchesPath } from './paths.ts';
import type { ReliesOn } from './plugin.ts';
import { propertiesOf } from './prototypes.ts';
import type { DeclaredClass } from './registration.ts';

export interface ContractReport {
  readonly owner: Owner;
  readonly className: string;
  /** `not checked`: no breach was found, and something could not be looked at. */
  readonly state: 'not checked' | 'holds' | 'broken';
  /** For each breach, what the override relies on and what upstream has now. */
  readonly breaches: readonly string[];
  /** Each part that could not be checked, with the reason. */
  readonly notChecked: readonly string[];
}

/** An override that states a contract, with the classes that it builds on. */
export interface ContractSubject {
  readonly owner: Owner;
  readonly target: DeclaredClass;
  readonly reliesOn: ReliesOn;
  readonly upstreamClass: AnyClass;
  /** The class below it in the chain. */
  readonly base: AnyClass;
}

type Finding = { readonly breach: string } | { readonly notChecked: string } | null;

/**
 * Holds one `reliesOn` against its base: version, methods and copied methods on the class and in the manifest; attributes and parameters on a
 * built instance, which is null where none was built.
 * @throws ManifestInvalidError
 */
export async function checkContract(subject: ContractSubject, model: object | null): Promise<ContractReport> {
  const { owner, target, upstreamClass } = subject;
  const { version, methods = [], copied = {}, attributes = [], parameters = [] } = subject.reliesOn;
  const check = new ContractCheck(subject, await loadManifest(target.manifest, ownerText(target.owner)), model);
  const findings = [
    version === undefined ? null : check.version(version),
    ...methods.map((name) => check.method(name)),
    ...Object.entries(copied).map(([name, hash]) => check.copied(name, hash)),
    ...attributes.map((name) => check.attribute(name)),
    ...parameters.map((name) => check.parameter(name)),
  ];
  const breaches = findings.flatMap((finding) => (finding !== null && 'breach' in finding ? [finding.breach] : []));
  const notChecked = findings.flatMap((finding) => (finding !== null && 'notChecked' in finding ? [finding.notChecked] : []));
  const state = breaches.length > 0 ? 'broken' : notChecked.length > 0 ? 'not checked' : 'holds';
  return { owner, className: upstreamClass.name, state, breaches, notChecked };
}

class ContractCheck {
  private readonly subject: ContractSubject;
  private readonly manifest: UpstreamManifest | null;
  private readonly model: object | null;
  private readonly plugin: string;

  constructor(subject: ContractSubject, manifest: UpstreamManifest | null, model: object | null) {
    this.subject = subject;
    this.manifest = manifest;
    this.model = model;
    this.plugin = `plugin "${subject.target.owner.plugin}"`;
  }

  version(range: string): Finding {
    const version = this.subject.target.version ?? this.manifest?.version ?? null;
    if (version === null) return { notChecked: `version "${range}": ${this.plugin} states none` };
    if (semver.satisfies(version, range, { includePrerelease: true })) return null;
    return { breach: `version "${range}" of ${this.plugin}: it is ${version} now` };
  }

  method(name: string): Finding {
    const { className, member, parameters } = parseMethod(name);
    const what = `method "${name}"`;
    const judge = ({ parameters: now }: ManifestMember): string | null =>
      parameters === null || sameParameters(parameters, now) ? null : `it is ${member}(${now.join(', ')}) now`;
    if (className !== null) return this.member(what, className, member, judge);
    const { base, upstreamClass } = this.subject;
    const known = methodNames(base);
    if (!known.includes(member)) {
      const isAccessor = propertiesOf(base.prototype).has(member);
      return { breach: `${what} of ${base.name}: ${isAccessor ? 'it is an accessor now' : nowText(member, known)}` };
    }
    if (this.manifest === null) return { notChecked: `${what}: ${this.plugin} has no manifest; the class has the name` };
    // The class may have what the manifest does not know, such as the method of a factory below.
    if (new ManifestChain(this.manifest, upstreamClass.name).member(member) !== null)
      return this.member(what, upstreamClass.name, member, judge);
    return parameters === null ? null : { notChecked: `parameters of ${what}: the manifest does not have it` };
  }

  copied(name: string, hash: string): Finding {
    const { className, member } = parseMethod(name);
    const judge = (facts: ManifestMember): string | null => {
      if (facts.hash === hash) return null;
      const now = facts.hash === null ? 'it is abstract now' : `upstream changed it: its hash is "${facts.hash}" now`;
      return `the copy has hash "${hash}", and ${now}`;
    };
    return this.member(`copied method "${name}"`, className ?? this.subject.upstreamClass.name, member, judge);
  }

  attribute(name: string): Finding {
    const { className, member } = parseMethod(name);
    const what = `attribute "${name}"`;
    if (className !== null) return this.member(what, className, member);
    if (this.model === null) return { notChecked: `${what}: no model was built` };
    const found = findAttribute(this.model, name);
    if (found === 'there') return null;
    return 'absent' in found ? { breach: `${what}: ${found.absent}` } : { notChecked: `${what}: ${nullText(found.behindNull)}` };
  }

  parameter(name: string): Finding {
    const what = `parameter "${name}"`;
    if (this.model === null) return { notChecked: `${what}: no model was built` };
    const known = [...(this.model as InspectableModel).namedParameters()].map(([parameter]) => parameter);
    if (known.some((other) => matchesPath(name, other))) return null;
    // What is null by this model's config, such as the head of tied embeddings, did not drift.
    const found = findAttribute(this.model, name);
    const isNull = typeof found === 'object' && 'behindNull' in found;
    return isNull ? { notChecked: `${what}: ${nullText(found.behindNull)}` } : { breach: `${what}: ${nowText(name, known)}` };
  }

  /** A member of a class of the manifest: a method with `judge`, which says what is wrong with it, an attribute without. */
  private member(what: string, className: string, member: string, judge?: (facts: ManifestMember) => string | null): Finding {
    if (this.manifest === null) return { notChecked: `${what}: ${this.plugin} has no manifest` };
    const { classes, package: name } = this.manifest;
    if (!Object.hasOwn(classes, className))
      return { breach: `${what}: ${name} has no class ${className}; ${nowText(className, Object.keys(classes))}` };
    const chain = new ManifestChain(this.manifest, className);
    const facts = chain.member(member);
    if (judge === undefined ? chain.attributes.includes(member) : facts !== null) {
      const problem = judge?.(facts!) ?? null;
      return problem === null ? null : { breach: `${what}: ${problem}` };
    }
    if (chain.unknownBase !== null)
      return { notChecked: `${what}: the manifest does not have ${chain.unknownBase}, a base of ${className}` };
    const known = judge === undefined ? chain.attributes : chain.methods;
    return { breach: `${what}: ${className} has no "${member}"; ${nowText(member, known)}` };
  }
}

const nullText = (at: string): string => `"${at}" is null in this model`;

/** Methods of a class and of its bases, static ones as `static name`. */
export function methodNames(Class: AnyClass): string[] {
  const methodsOf = (of: object, except: string): string[] =>
    [...propertiesOf(of)].flatMap(([name, { value }]) => (typeof value === 'function' && name !== except ? [name] : []));
  return [...methodsOf(Class.prototype, 'constructor'), ...methodsOf(Class, 'prototype').map((name) => `static ${name}`)];
}

export class ContractBrokenError extends GraftError {
  readonly reports: readonly ContractReport[];

  constructor(reports: readonly ContractReport[], cause?: unknown) {
    const lines = reports.flatMap(({ breaches }) => breaches.map((text) => `\n    ${text}`)).join('');
    const names = [...new Set(reports.map(({ className }) => className))];
    const who = `${reports.length === 1 ? 'An override' : `${reports.length} overrides`} of ${names.join(' and ')}`;
    super({
      code: 'GRAFT_CONTRACT_BROKEN',
      what: `${who} ${reports.length === 1 ? 'relies' : 'rely'} on what the base no longer has:${lines}\n  No weight was read.`,
      where: reports.map(({ owner }) => ownerText(owner)).join(' and '),
      fix: `adapt the override to what upstream has now, then its reliesOn; \`graft contract ${names[0]}\` prints the class as it is.`,
      cause,
    });
    this.reports = reports;
  }
}
