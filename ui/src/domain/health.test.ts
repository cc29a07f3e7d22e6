import { expect, it } from 'vitest';

import { reasonOf } from './health';

it('gives the reason of one that is as bad as all together', () => {
  const things = [{ health: 'healthy', health_reason: 'a' }, { health: 'failing' }, { health: 'failing', health_reason: 'b' }];
  expect(reasonOf(things, 'failing')).toBe('b');
  expect(reasonOf(things, 'idle')).toBeUndefined();
});
