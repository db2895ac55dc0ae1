import { type LookupAddress, lookup } from 'node:dns';
import { type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { isIP } from 'node:net';
import { GraftError, messageOf } from '@graft/common';
import { ImageBytesError, ImageTypeError } from '@graft/engine';
import { ImageAddressError, ImageFetchError, ImageHostError } from './errors.ts';
import { isPublicAddress } from './public-address.ts';

/** From where images are fetched. */
export interface ImageHosts {
  /** Names or addresses, as `name:port` for a port that is not the scheme's own. Empty: nothing is fetched. */
  allowed: readonly string[];
  /** Whether those may have addresses inside private networks. */
  allowPrivate: boolean;
}

export interface FetchImage extends ImageHosts {
  maxBytes: number;
  /** For all of it, from the look-up of the name to the last byte. */
  timeoutMs: number;
  /** In the request, for errors. */
  where: string;
  signal: AbortSignal;
}

const schemes = { 'http:': requestHttp, 'https:': requestHttps };

/**
 * The bytes of an image elsewhere. The URL is parsed once, for the check and for the fetch; its host must be allowed; the name is looked up once, the address
 * checked, and the connection made to that very address. Redirects are not followed, and reading stops at `maxBytes`.
 * @throws ImageHostError, ImageAddressError, ImageFetchError, ImageTypeError, ImageBytesError; the signal's reason.
 */
export async function fetchImage(text: string, options: FetchImage): Promise<Uint8Array> {
  const { where, timeoutMs, signal } = options;
  const url = parseUrl(text, where);
  if (!isAllowed(url, options.allowed)) throw new ImageHostError(url.host, where);
  const timeout = AbortSignal.timeout(timeoutMs);
  try {
    const either = AbortSignal.any([signal, timeout]);
    const address = await resolve(url, options, either);
    const bytes = await read(await send(url, address, either), options);
    either.throwIfAborted(); // a body without a length ends in silence where its connection is cut
    return bytes;
  } catch (error) {
    signal.throwIfAborted();
    if (GraftError.is(error)) throw error;
    const why = timeout.aborted ? `it took more than ${timeoutMs / 1000} s` : messageOf(error);
    throw new ImageFetchError(`The image at ${url.host} could not be fetched: ${why}.`, where, error);
  }
}

/**
 * A host of the allow list as a URL has it, so that the two can be compared: in lower case, other letters in their ASCII form, a number as the address that it is.
 * @param text a name or an address, with or without a port; without one, the scheme's own is meant.
 * @returns null for anything else, such as a URL, a path or a pattern.
 */
export function parseImageHost(text: string): { hostname: string; port: string | null } | null {
  const [, name = '', port] = /^(\[[^\]\s]+\]|[^/\\?#@*:\s]+)(?::(\d+))?$/.exec(text) ?? [];
  const url = urlOf(`http://${name}`);
  if (url === null || url.port !== '' || Number(port ?? 1) > 65_535) return null;
  return { hostname: url.hostname, port: port === undefined ? null : String(Number(port)) };
}

function isAllowed({ protocol, hostname, port }: URL, allowed: readonly string[]): boolean {
  const ownPort = protocol === 'https:' ? '443' : '80';
  return allowed.some((text) => {
    const host = parseImageHost(text);
    return host !== null && host.hostname === hostname && (host.port ?? ownPort) === (port || ownPort);
  });
}

/** Whether a URL is of a kind that is fetched, and no `data:` URL. */
export function isRemoteUrl(text: string): boolean {
  return /^https?:/i.test(text);
}

function parseUrl(text: string, where: string): URL {
  const url = urlOf(text);
  if (url === null || !(url.protocol in schemes))
    throw new ImageFetchError("The image's URL cannot be read as one of http or https.", where);
  if (url.username !== '' || url.password !== '') throw new ImageFetchError("The image's URL holds a user name or password.", where);
  return url;
}

function urlOf(text: string): URL | null {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}

async function resolve({ host, hostname }: URL, { allowPrivate, where }: FetchImage, signal: AbortSignal): Promise<LookupAddress> {
  const bare = hostname.replace(/^\[|\]$/g, '');
  const family = isIP(bare);
  const addresses = family === 0 ? await lookUp(bare, signal) : [{ address: bare, family }];
  // One private address among public ones is no mistake of anybody's: such a name is there to get past a check.
  if (!allowPrivate && !addresses.every(({ address }) => isPublicAddress(address))) throw new ImageAddressError(host, where);
  return addresses[0]!;
}

function lookUp(hostname: string, signal: AbortSignal): Promise<LookupAddress[]> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    lookup(hostname, { all: true }, (error, addresses) => (error === null ? resolve(addresses) : reject(error)));
  });
}

function send(url: URL, { address, family }: LookupAddress, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = schemes[url.protocol as keyof typeof schemes](url, {
      agent: false, // no connection that was made for another request
      signal,
      headers: { accept: 'image/png, image/jpeg, image/webp, image/gif', 'accept-encoding': 'identity', 'user-agent': 'graft' },
      lookup: (_hostname, { all }, done) => (all === true ? done(null, [{ address, family }]) : done(null, address, family)),
    });
    // A server that switches protocols gives neither a response nor an error.
    const onClose = () => reject(new Error('the connection was closed without an answer'));
    request.once('response', resolve).once('error', reject).once('close', onClose).end();
  });
}

async function read(response: IncomingMessage, { maxBytes, where }: FetchImage): Promise<Uint8Array> {
  try {
    checkHead(response, where);
    const announced = Number(response.headers['content-length'] ?? 0);
    if (announced > maxBytes) throw new ImageBytesError(announced, maxBytes, where);
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > maxBytes) throw new ImageBytesError(length, maxBytes, where, 'at least');
      chunks.push(chunk);
    }
    return new Uint8Array(Buffer.concat(chunks));
  } finally {
    response.destroy();
  }
}

function checkHead({ statusCode = 0, headers }: IncomingMessage, where: string): void {
  if (statusCode >= 300 && statusCode < 400)
    throw new ImageFetchError(`The image's server answers ${statusCode}, a redirect, which is not followed.`, where);
  if (statusCode !== 200) throw new ImageFetchError(`The image's server answers ${statusCode}.`, where);
  const encoding = headers['content-encoding'] ?? 'identity';
  if (encoding.toLowerCase() !== 'identity')
    throw new ImageFetchError(`The image's server sends it packed ("${encoding}"), which was not asked for.`, where);
  const type = headers['content-type'] ?? '';
  if (!/^image\//i.test(type)) throw new ImageTypeError(`The URL gives ${type === '' ? 'no content type' : `"${type}"`}, no image.`, where);
}
