import { GraftError } from '@graft/common';

/** A request names an image elsewhere, on a host from which this server fetches nothing. */
export class ImageHostError extends GraftError {
  constructor(host: string, where: string) {
    super({
      code: 'GRAFT_IMAGE_HOST',
      what: `This server fetches no image from "${host}".`,
      where,
      fix: `send the image itself as "data:image/png;base64,...", or start the server with --allow-image-host ${host}.`,
    });
  }
}

/** The host of an image has an address inside a private network, where a request must not reach through this server. */
export class ImageAddressError extends GraftError {
  constructor(host: string, where: string) {
    super({
      code: 'GRAFT_IMAGE_ADDRESS',
      what: `"${host}" has an address that is not of the public internet.`,
      where,
      fix: 'send the image itself as "data:image/png;base64,...", or start the server with --allow-private-image-hosts as well.',
    });
  }
}

/** An image could not be fetched from its URL. */
export class ImageFetchError extends GraftError {
  constructor(what: string, where: string, cause?: unknown) {
    super({
      code: 'GRAFT_IMAGE_FETCH',
      what,
      where,
      fix: 'check the URL, or send the image itself as "data:image/png;base64,...".',
      cause,
    });
  }
}
