import semver from 'semver';
import { loadManifest, ManifestChain, type UpstreamManifest } from './manifest.ts';
import { parseMethod, sameParameters } from './method-name.ts';
import type { AnyClass, InspectableModel } from './model.ts';
import { nearestNames } from './names.ts';
import { findAttribute, matchesPath } from './paths.ts';
import type { ReliesOn } from './plugin.ts';
import { type DeclaredClass, type Owner, ownerText } from './registration.ts';

/** `none`: the override states no contract. `not checked`: no breach was found, and something could not be looked at. */
export type ContractState = 'none' | 'not checked' | 'holds' | 'broken';

export interface ContractBreach {
  readonly fact: 'attribute' | 'method' | 'parameter' | 'version' | 'copied';
  /** As `reliesOn` writes it. */
  readonly name: string;
  /** What is relied on, and what is there now. */
  readonly text: string;
}

/** What the check of one override's `reliesOn` found. */
export interface ContractReport {
  readonly owner: Owner;
  /** The name of the upstream class. */
  readonly className: string;
  readonly state: Exclude<ContractState, 'none'>;
  readonly breaches: readonly ContractBreach[];
  /** What could not be looked at, each with the reason. */
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

type Finding = ContractBreach | { readonly notChecked: string };

/**
 * Holds one `reliesOn` against its base: version, methods and copied methods on the class and in the manifest; attributes and parameters on a
 * built instance, which is null where none was built.
 * @throws ManifestInvalidError
 */
export async function checkContract(subject: ContractSubject, model: object | null): Promise<ContractReport> {
  const { owner, target, reliesOn, upstreamClass } = subject;
  const manifest = await loadManifest(target.manifest, ownerText(target.owner));
  const check = new ContractCheck(subject, manifest);
  const { version, methods = [], copied = {}, attributes = [], parameters = [] } = reliesOn;
  const findings = [
    ...(version === undefined ? [] : check.version(version)),
    ...methods.flatMap((name) => check.method(name)),
    ...Object.entries(copied).flatMap(([name, hash]) => check.copied(name, hash)),
    ...attributes.flatMap((name) => check.attribute(name, model)),
    ...check.parameters(parameters, model),
  ];
  const breaches = findings.filter((finding) => 'fact' in finding);
  const notChecked = findings.flatMap((finding) => ('fact' in finding ? [] : [finding.notChecked]));
  const state = breaches.length > 0 ? 'broken' : notChecked.length > 0 ? 'not checked' : 'holds';
  return { owner, className: upstreamClass.name, state, breaches, notChecked };
}

class ContractCheck {
  private readonly subject: ContractSubject;
  private readonly manifest: UpstreamManifest | null;
  private readonly noManifest: string;

  constructor(subject: ContractSubject, manifest: UpstreamManifest | null) {
    this.subject = subject;
    this.manifest = manifest;
    this.noManifest = `plugin "${subject.target.owner.plugin}" has no manifest`;
  }

  version(range: string): readonly Finding[] {
    const { target } = this.subject;
    const version = target.version ?? this.manifest?.version ?? null;
    if (version === null) return [{ notChecked: `version "${range}": plugin "${target.owner.plugin}" states none` }];
    if (semver.satisfies(version, range, { includePrerelease: true })) return [];
    return [breach('version', range, `version "${range}" of plugin "${target.owner.plugin}": it is ${version} now`)];
  }

  method(name: string): readonly Finding[] {
    const { className, member, parameters } = parseMethod(name);
    if (className !== null) return this.declared('method', name, className, (chain) => this.signature(name, chain, member, parameters));
    const { base, upstreamClass } = this.subject;
    if (!methodNames(base).includes(member)) {
      const now = isAccessor(base, member) ? 'it is an accessor now' : nowText(member, methodNames(base));
      return [breach('method', name, `method "${name}" of ${base.name}: ${now}`)];
    }
    if (this.manifest === null) return [{ notChecked: `method "${name}": ${this.noManifest}; the class has the name` }];
    const chain = new ManifestChain(this.manifest, upstreamClass.name);
    // What the manifest does not know, such as the method of a factory below, is on the class all the same.
    if (chain.member(member) !== null) return this.signature(name, chain, member, parameters);
    return parameters === null ? [] : [{ notChecked: `parameters of method "${name}": the manifest does not have it` }];
  }

  copied(name: string, hash: string): readonly Finding[] {
    const { className, member } = parseMethod(name);
    const of = className ?? this.subject.upstreamClass.name;
    return this.declared('copied', name, of, (chain) => {
      const facts = chain.member(member);
      if (facts === null) return this.absent('copied', name, of, chain, member, chain.members);
      if (facts.hash === hash) return [];
      const now = facts.hash === null ? 'it is abstract now' : `upstream changed it: its hash is "${facts.hash}" now`;
      return [breach('copied', name, `copied method "${name}" with hash "${hash}": ${now}`)];
    });
  }

  attribute(name: string, model: object | null): readonly Finding[] {
    const { className, member } = parseMethod(name);
    if (className !== null)
      return this.declared('attribute', name, className, (chain) =>
        chain.attributes.includes(member) ? [] : this.absent('attribute', name, className, chain, member, chain.attributes),
      );
    if (model === null) return [{ notChecked: `attribute "${name}": no model was built` }];
    const found = findAttribute(model, name);
    if (found.is === 'there') return [];
    if (found.is === 'behind null') return [{ notChecked: `attribute "${name}": "${found.at}" is null in this model` }];
    const at = found.at === '' ? found.className : `"${found.at}" (${found.className})`;
    return [breach('attribute', name, `attribute "${name}": ${at} has no "${found.segment}"; ${nowText(found.segment, found.names)}`)];
  }

  parameters(names: readonly string[], model: object | null): readonly Finding[] {
    if (names.length === 0) return [];
    if (model === null) return names.map((name) => ({ notChecked: `parameter "${name}": no model was built` }));
    const known = [...(model as InspectableModel).namedParameters()].map(([name]) => name);
    return names
      .filter((name) => !known.some((other) => matchesPath(name, other)))
      .map((name) => {
        // What is null by this model's config, such as the head of tied embeddings, did not drift.
        const found = findAttribute(model, name);
        if (found.is === 'behind null') return { notChecked: `parameter "${name}": "${found.at}" is null in this model` };
        return breach('parameter', name, `parameter "${name}": ${nowText(name, known)}`);
      });
  }

  /** A fact about a class of the manifest. */
  private declared(
    fact: ContractBreach['fact'],
    name: string,
    className: string,
    find: (chain: ManifestChain) => readonly Finding[],
  ): readonly Finding[] {
    const noun = fact === 'copied' ? 'copied method' : fact;
    if (this.manifest === null) return [{ notChecked: `${noun} "${name}": ${this.noManifest}` }];
    if (Object.hasOwn(this.manifest.classes, className)) return find(new ManifestChain(this.manifest, className));
    const now = nowText(className, Object.keys(this.manifest.classes));
    return [breach(fact, name, `${noun} "${name}": ${this.manifest.package} has no class ${className}; ${now}`)];
  }

  private signature(name: string, chain: ManifestChain, member: string, parameters: readonly string[] | null): readonly Finding[] {
    const facts = chain.member(member);
    if (facts === null) return this.absent('method', name, parseMethod(name).className!, chain, member, chain.methods);
    if (parameters === null || sameParameters(parameters, facts.parameters)) return [];
    return [breach('method', name, `method "${name}": it is ${member}(${facts.parameters.join(', ')}) now`)];
  }

  private absent(
    fact: ContractBreach['fact'],
    name: string,
    className: string,
    { unknownBase }: ManifestChain,
    member: string,
    known: readonly string[],
  ): readonly Finding[] {
    const noun = fact === 'copied' ? 'copied method' : fact;
    if (unknownBase !== null)
      return [{ notChecked: `${noun} "${name}": the manifest does not have ${unknownBase}, a base of ${className}` }];
    return [breach(fact, name, `${noun} "${name}": ${className} has no "${member}"; ${nowText(member, known)}`)];
  }
}

function breach(fact: ContractBreach['fact'], name: string, text: string): ContractBreach {
  return { fact, name, text };
}

function nowText(name: string, known: readonly string[]): string {
  const nearest = nearestNames(name, known);
  return nearest.length === 0 ? 'there is none now' : `now there is ${nearest.map((one) => `"${one}"`).join(', ')}`;
}

function* prototypesOf(Class: AnyClass): Iterable<object> {
  let prototype: object | null = Class.prototype as object;
  for (; prototype !== null && prototype !== Object.prototype; prototype = Object.getPrototypeOf(prototype)) yield prototype;
}

export function methodNames(Class: AnyClass): string[] {
  const names = new Set<string>();
  for (const prototype of prototypesOf(Class)) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
      if (name !== 'constructor' && typeof value === 'function') names.add(name);
    }
  }
  return [...names, ...staticMethodNames(Class)];
}

function staticMethodNames(Class: AnyClass): string[] {
  const names = new Set<string>();
  for (let at: object = Class; at !== Function.prototype; at = Object.getPrototypeOf(at) as object) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(at))) {
      if (name !== 'prototype' && typeof value === 'function') names.add(`static ${name}`);
    }
  }
  return [...names];
}

function isAccessor(Class: AnyClass, name: string): boolean {
  for (const prototype of prototypesOf(Class)) {
    const own = Object.getOwnPropertyDescriptor(prototype, name);
    if (own !== undefined) return own.value === undefined;
  }
  return false;
}
