import { graftError } from '@graft/common';

/** A request names an image on a host that the server was not allowed to fetch from. */
export class ImageHostError extends graftError('GRAFT_IMAGE_HOST', (host: string, where: string) => ({
  what: `This server fetches no image from "${host}".`,
  where,
  fix: `send the image itself as "data:image/png;base64,...", or start the server with --allow-image-host ${host}.`,
})) {}

/** An image's host has a private address. Requests must not reach private networks through this server. */
export class ImageAddressError extends graftError('GRAFT_IMAGE_ADDRESS', (host: string, where: string) => ({
  what: `The address of "${host}" is not on the public internet.`,
  where,
  fix: 'send the image itself as "data:image/png;base64,...", or start the server with --allow-private-image-hosts as well.',
})) {}

/** An image could not be fetched from its URL. */
export class ImageFetchError extends graftError('GRAFT_IMAGE_FETCH', (what: string, where: string, cause?: unknown) => ({
  what,
  where,
  fix: 'check the URL, or send the image itself as "data:image/png;base64,...".',
  cause,
})) {}
