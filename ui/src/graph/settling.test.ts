import { describe, expect, it } from 'vitest';

import { outgrown } from './settling';

describe('a layout is made anew', () => {
  it('as long as the mesh is new and edges come', () => {
    expect(outgrown({ edges: 0, touched: false }, false, 0)).toBe(false);
    expect(outgrown({ edges: 0, touched: false }, false, 8)).toBe(true);
    expect(outgrown({ edges: 11, touched: false }, false, 14)).toBe(true);
    expect(outgrown({ edges: 990, touched: false }, false, 1000)).toBe(false);
  });

  it('later only if it was made with less than most of the edges', () => {
    expect(outgrown({ edges: 11, touched: false }, true, 14)).toBe(false);
    expect(outgrown({ edges: 8, touched: false }, true, 14)).toBe(true);
    expect(outgrown({ edges: 14, touched: false }, true, 3)).toBe(false);
  });

  it('never once a person has moved a node', () => {
    expect(outgrown({ edges: 0, touched: true }, false, 14)).toBe(false);
    expect(outgrown({ edges: 0, touched: true }, true, 14)).toBe(false);
  });
});
