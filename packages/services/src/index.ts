import { noteCopy } from '@graft/common';

export { inject, injectable, type Newable, optional } from 'inversify';
export {
  type Bind,
  type Binding,
  type BindingOptions,
  type BindingSyntax,
  collectBindings,
  defaultBindings,
  requireNoRival,
  type Services,
  servesOn,
} from './binder.ts';
export { constructorOf, declaresFields } from './class-source.ts';
export { ServiceContainer } from './container.ts';
export { describeServices, type ServiceRecord, servicesText } from './describe.ts';
export { ContractVersionError, ServiceNotBoundError } from './errors.ts';
export { boundBy, type Owner, ownerText } from './owner.ts';
export { listToken, type Scope, type Token, token } from './tokens.ts';

noteCopy('@graft/services', import.meta.url);
