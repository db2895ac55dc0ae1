import { expect, test } from 'vitest';
import { Permits } from './permits.ts';

/** Lets what is ready go on. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

test('requests beyond the count wait, and proceed in the order of arrival', async () => {
  const permits = new Permits(2);
  const order: string[] = [];
  const enter = async (name: string) => {
    const permit = await permits.acquire();
    order.push(name);
    return permit;
  };
  const first = await enter('a');
  const second = await enter('b');
  const [third, fourth] = [enter('c'), enter('d')];
  await turn();
  expect(order).toEqual(['a', 'b']);
  second[Symbol.dispose]();
  second[Symbol.dispose]();
  await third;
  await turn();
  expect(order).toEqual(['a', 'b', 'c']);
  first[Symbol.dispose]();
  await fourth;
  expect(order).toEqual(['a', 'b', 'c', 'd']);
});

test('an aborted wait passes its turn to the next in line', async () => {
  const permits = new Permits(1);
  const held = await permits.acquire();
  const controller = new AbortController();
  const given = permits.acquire(controller.signal);
  const next = permits.acquire();
  controller.abort(new Error('never mind'));
  await expect(given).rejects.toThrow('never mind');
  held[Symbol.dispose]();
  (await next)[Symbol.dispose]();
  (await permits.acquire())[Symbol.dispose]();
  await expect(permits.acquire(controller.signal)).rejects.toThrow('never mind');
});
