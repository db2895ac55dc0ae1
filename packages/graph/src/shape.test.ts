import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DimCoercedError, ShapeError } from './errors.ts';
import { Dim, dimsOf, expectDim, formatDims, localise, productOf, sameDims, watchSizes } from './shape.ts';

const batch = Dim.symbol('batch');
const sequence = Dim.symbol('sequence');

describe('Dim', () => {
  test('two symbols are never equal, whatever their values are', () => {
    expect(batch.equals(sequence)).toBe(false);
    expect(batch.equals(1)).toBe(false);
    expect(batch.evaluate(() => 1)).toBe(sequence.evaluate(() => 1));
  });

  test('a product is equal to the same factors in another order', () => {
    expect(batch.times(sequence).times(4).equals(Dim.of(4).times(sequence).times(batch))).toBe(true);
    expect(batch.times(2).equals(batch)).toBe(false);
  });

  test('a comparison or arithmetic with a dimension throws instead of being silently wrong', () => {
    const coerced = batch as unknown as number;
    expect(() => coerced < 3).toThrow(DimCoercedError);
    expect(() => coerced * 2).toThrow(DimCoercedError);
    // biome-ignore lint/suspicious/noDoubleEquals: the very thing that is tested
    expect(() => (coerced as unknown) == 1).toThrow(DimCoercedError);
    expect(() => (Dim.of(3) as unknown as number) + 1).toThrow(DimCoercedError);
  });

  test('a dimension in text reads as its factors', () => {
    expect(`${batch.times(sequence).times(3)} ${Dim.of(7)}`).toBe('3*batch*sequence 7');
  });

  test('a product with numbers for some symbols is what the numbers make of it, and keeps the others', () => {
    const some = batch.times(sequence).times(batch).times(3);
    expect(some.withSizes(new Map([['batch', 5]])).toString()).toBe('75*sequence');
    expect(some.withSizes(new Map([['rows', 5]]))).toBe(some);
    fc.assert(
      fc.property(fc.nat(99), fc.nat(99), (a, b) => {
        const sizes = new Map([
          ['batch', a],
          ['sequence', b],
        ]);
        expect(some.withSizes(sizes).value).toBe(some.evaluate((name) => sizes.get(name)));
      }),
    );
  });

  test('only questions whose answer a number may change are reported', () => {
    let asked = 0;
    const askedBy = (question: () => unknown): number => {
      asked = 0;
      watchSizes(() => asked++, question);
      return asked;
    };
    expect(askedBy(() => batch.times(2).dividedBy(2).equals(batch))).toBe(0);
    expect(askedBy(() => [Dim.of(4).isStatic, Dim.of(4).value, `${Dim.of(4)}`, Dim.of(4).equals(5)])).toBe(0);
    expect(askedBy(() => batch.isStatic)).toBe(1);
    expect(askedBy(() => watchSizes(null, () => batch.isStatic))).toBe(0);
    expect(askedBy(() => watchSizes(null, () => 1) && batch.equals(1))).toBe(1);
    expect(batch.isStatic).toBe(false);
    expect(asked).toBe(1);
  });

  test('a symbol has no value before a step gives it one', () => {
    expect(batch.isStatic).toBe(false);
    expect(() => batch.value).toThrow(ShapeError);
    expect(Dim.of(5).value).toBe(5);
    expect(() => batch.times(sequence).evaluate((name) => (name === 'batch' ? 2 : undefined))).toThrow('"sequence"');
  });

  test.each([-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])('%d is refused as a size', (size) => {
    expect(() => Dim.of(size)).toThrow(ShapeError);
  });

  test.each(['', '4', '3x', 'a*b'])('"%s" is refused as a name, since it would equal a number or a product', (name) => {
    expect(() => Dim.symbol(name)).toThrow(ShapeError);
  });

  test('a division with a remainder is refused', () => {
    expect(batch.times(6).dividedBy(3).toString()).toBe('2*batch');
    expect(() => batch.times(6).dividedBy(4)).toThrow(ShapeError);
    expect(() => Dim.of(6).dividedBy(0)).toThrow(ShapeError);
  });

  test('the size of a product is the product of the sizes', () => {
    fc.assert(
      fc.property(fc.nat(100), fc.nat(100), fc.nat(100), (factor, b, s) => {
        const size = batch.times(factor).times(sequence);
        expect(size.evaluate((name) => ({ batch: b, sequence: s })[name])).toBe(factor * b * s);
      }),
    );
  });
});

test('symbols that are local to a module follow it; others stay', () => {
  const dims = [batch, Dim.symbol('@attn').times(2), Dim.symbol('@'), Dim.of(4)];
  expect(formatDims(localise(dims, 'layers.3'))).toBe('[batch, 2*@layers.3.attn, @layers.3, 4]');
  expect(localise(dims, '')).toBe(dims);
});

test('shapes are compared by their dimensions', () => {
  expect(sameDims(dimsOf([2, batch]), [Dim.of(2), Dim.symbol('batch')])).toBe(true);
  expect(sameDims(dimsOf([2]), dimsOf([2, 1]))).toBe(false);
  expect(productOf([]).value).toBe(1);
  expect(() => expectDim('The weight', Dim.of(3), 4)).toThrow('The weight has size 3, expected 4.');
  expect(() => expectDim('The weight', undefined, 4)).toThrow('none');
});
