import { expect, it } from 'vitest';

import { meansAround } from './around';

it('takes the means before, during and after', () => {
  expect(meansAround([[10, 1], [20, 3], [30, 8], [40, null], [50, 4]], 20, 40)).toEqual({ before: 2, during: 8, after: 4 });
  // Two reasons of failure have a point each at the same time.
  expect(meansAround([[30, 8], [30, 2]], 20, 40)).toEqual({ before: undefined, during: 10, after: undefined });
});
