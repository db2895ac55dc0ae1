import { type LookupAddress, lookup } from 'node:dns';
import { type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { isIP } from 'node:net';
import { GraftError, messageOf } from '@graft/common';
import { ImageBytesError, ImageTypeError } from '@graft/engine';
import { ImageAddressError, ImageFetchError, ImageHostError } from './errors.ts';
import { parseImageHost, urlOf } from './image-host.ts';
import { isPublicAddress } from './public-address.ts';

/** Hosts that images are fetched from. */
export interface ImageHosts {
  /** Names or addresses; `name:port` for another port than the scheme's default. Empty: nothing is fetched. */
  allowed: readonly string[];
  /** Whether these hosts may have private addresses. */
  allowPrivate: boolean;
}

export interface FetchImage extends ImageHosts {
  maxBytes: number;
  /** From the name look-up to the last byte. */
  timeoutMs: number;
  /** The image's key in the request, for errors. */
  where: string;
  signal: AbortSignal;
}

const schemes = { 'http:': requestHttp, 'https:': requestHttps };

/**
 * Fetches an image. The host must be allowed. URL and name are resolved once, so the connection goes to the address that was checked. Redirects are not
 * followed, and reading stops at `maxBytes`.
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
    either.throwIfAborted(); // a body without a length ends silently when its connection is cut
    return bytes;
  } catch (error) {
    signal.throwIfAborted();
    if (GraftError.is(error)) throw error;
    const why = timeout.aborted ? `it took more than ${timeoutMs / 1000} s` : messageOf(error);
    throw new ImageFetchError(`The image at ${url.host} could not be fetched: ${why}.`, where, error);
  }
}

function isAllowed({ protocol, hostname, port }: URL, allowed: readonly string[]): boolean {
  const ownPort = protocol === 'https:' ? '443' : '80';
  return allowed.some((text) => {
    const host = parseImageHost(text);
    return host !== null && host.hostname === hostname && (host.port ?? ownPort) === (port || ownPort);
  });
}

/** Whether a URL is fetched (http, https), unlike a `data:` URL. */
export function isRemoteUrl(text: string): boolean {
  return /^https?:/i.test(text);
}

function parseUrl(text: string, where: string): URL {
  const url = urlOf(text);
  if (url === null || !(url.protocol in schemes)) throw new ImageFetchError("The image's URL is not a valid http or https URL.", where);
  if (url.username !== '' || url.password !== '') throw new ImageFetchError("The image's URL holds a user name or password.", where);
  return url;
}

async function resolve({ host, hostname }: URL, { allowPrivate, where }: FetchImage, signal: AbortSignal): Promise<LookupAddress> {
  const bare = hostname.replace(/^\[|\]$/g, '');
  const family = isIP(bare);
  const addresses = family === 0 ? await lookUp(bare, signal) : [{ address: bare, family }];
  // All addresses must be public: a name with both kinds exists to get past such checks.
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
      agent: false, // a new connection: pooled ones may lead to another address
      signal,
      headers: { accept: 'image/png, image/jpeg, image/webp, image/gif', 'accept-encoding': 'identity', 'user-agent': 'graft' },
      lookup: (_hostname, { all }, done) => (all === true ? done(null, [{ address, family }]) : done(null, address, family)),
    });
    // A server that switches protocols causes neither a response nor an error.
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
    throw new ImageFetchError(`The image's server sends it compressed ("${encoding}"), which was not requested.`, where);
  const type = headers['content-type'] ?? '';
  if (!/^image\//i.test(type))
    throw new ImageTypeError(`The URL gives ${type === '' ? 'no content type' : `"${type}"`}, not an image.`, where);
}
