import { expect, test } from 'vitest';
import { OnnxBuildError } from '../errors.ts';
import { float, int, ints } from './attributes.ts';
import { decodeModel, GraphBuilder } from './builder.ts';
import { AttributeProto_AttributeType, TensorProto_DataLocation } from './onnx_pb.ts';
import { tensorProto } from './tensors.ts';

test('a model survives encoding and decoding: opsets, inputs with symbolic dims, nodes, attributes and outputs', () => {
  const graph = new GraphBuilder('round');
  const x = graph.input('x', 'float16', ['batch', 4]);
  const [first] = graph.node('Op', [x, '', x], {
    domain: 'com.microsoft',
    outputs: ['a', '', 'b'],
    attributes: { i: int(-3), is: ints([1, 2n]), f: float(2), s: 'tanh' },
  });
  graph.output(first as string, 'float16', ['batch', 4]);
  graph.output('b', 'int64');

  const model = decodeModel(graph.toBytes());
  expect(model.irVersion).toBe(10n);
  expect(model.opsetImport.map(({ domain, version }) => [domain, version])).toEqual([
    ['', 21n],
    ['com.microsoft', 1n],
  ]);
  const [input] = model.graph!.input;
  const type = input?.type?.value;
  expect(type?.case === 'tensorType' && type.value.elemType).toBe(10); // TensorProto.FLOAT16
  expect(type?.case === 'tensorType' && type.value.shape?.dim.map((dim) => dim.value.value)).toEqual(['batch', 4n]);
  const [node] = model.graph!.node;
  expect(node?.input).toEqual(['x', '', 'x']);
  expect(node?.output).toEqual(['a', '', 'b']);
  const kinds = Object.fromEntries(node!.attribute.map(({ name, type: kind }) => [name, kind]));
  const { INT, INTS, FLOAT, STRING } = AttributeProto_AttributeType;
  expect(kinds).toEqual({ i: INT, is: INTS, f: FLOAT, s: STRING });
  expect(node!.attribute.find(({ name }) => name === 'is')?.ints).toEqual([1n, 2n]);
  expect(node!.attribute.find(({ name }) => name === 'f')?.f).toBe(2);
  expect(model.graph!.output.map(({ name }) => name)).toEqual(['a', 'b']);
});

test('an inline initializer holds its elements as little-endian bytes, from numbers and from typed arrays alike', () => {
  const graph = new GraphBuilder('data');
  graph.initializer('numbers', 'int64', [2], [1, -1n]);
  graph.initializer('typed', 'float32', [1, 2], Float32Array.of(1, 2));
  const [numbers, typed] = decodeModel(graph.toBytes()).graph!.initializer;
  expect([...numbers!.rawData!]).toEqual([1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
  expect([...typed!.rawData!]).toEqual([0, 0, 128, 63, 0, 0, 0, 64]); // 1 and 2 as IEEE 754
  expect(typed!.dims).toEqual([1n, 2n]);
});

test('an external initializer names its file and range, and has no data', () => {
  const graph = new GraphBuilder('external');
  graph.externalInitializer('w', 'uint8', [4], { location: 'weights.bin', byteOffset: 64, byteLength: 4 });
  const [tensor] = decodeModel(graph.toBytes()).graph!.initializer;
  expect(tensor!.dataLocation).toBe(TensorProto_DataLocation.EXTERNAL);
  expect(Object.fromEntries(tensor!.externalData.map(({ key, value }) => [key, value]))).toEqual({
    location: 'weights.bin',
    offset: '64',
    length: '4',
  });
  expect(tensor!.rawData).toHaveLength(0);
});

test('outputs are named after their node, and each name is unique', () => {
  const graph = new GraphBuilder('names');
  const x = graph.input('x', 'float32', [1]);
  expect(graph.node('Split', [x], { outputs: 2 })).toEqual(['Split_0:0', 'Split_0:1']);
  expect(graph.op('Split', [x])).toBe('Split_1:0');
});

test.each<[string, (graph: GraphBuilder) => unknown, string]>([
  ['an unknown input', (graph) => graph.op('Add', ['x', 'y']), 'No node makes the input "y"'],
  ['a duplicate name', (graph) => graph.initializer('x', 'int8', [1], [0]), 'two tensors with the name "x"'],
  ['an unknown output', (graph) => graph.output('z', 'float32'), 'No node makes the output "z"'],
  ['data of another size than the dims', (graph) => graph.initializer('w', 'float32', [3], [1, 2]), 'has 12 bytes; the data has 8'],
  ['bytes that are not a model', () => decodeModel(Uint8Array.of(255, 255, 255)), 'not an ONNX model'],
  ['a tensor of another size', () => tensorProto('t', 'int64', [2], [1n]), 'has 16 bytes'],
])('%s is refused', (_, build, message) => {
  const graph = new GraphBuilder('wrong');
  graph.input('x', 'float32', [1]);
  expect(() => build(graph)).toThrow(OnnxBuildError);
  expect(() => build(graph)).toThrow(message);
});
