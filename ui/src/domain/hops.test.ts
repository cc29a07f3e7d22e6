import { describe, expect, it } from 'vitest';

import type { GraphEdge } from '../api/types';
import { hopsOf } from './hops';

type Hops = NonNullable<GraphEdge['hops']>;

const through = (port: number, hops: Hops) => ({ port, hops }) as GraphEdge;

describe('hopsOf', () => {
  it('adds the hops of all ports, and keeps the way in order', () => {
    const hop = (from: string, to: string, closed: number, failures: Hops[number]['failures'] = {}): Hops[number] => ({
      from, to, connections: { closed, failed: Object.values(failures).reduce((sum, n) => sum + n, 0) }, failures,
    });
    expect(
      hopsOf([
        through(80, [hop('web', 'shop/waypoint', 10), hop('shop/waypoint', 'api', 4, { policy_denied: 3 })]),
        through(81, [hop('web', 'shop/waypoint', 5), hop('shop/waypoint', 'api', 2, { policy_denied: 1, connection_refused: 1 })]),
        { port: 82 } as GraphEdge,
      ]),
    ).toEqual([
      { from: 'web', to: 'shop/waypoint', closed: 15, failed: 0, failures: {} },
      { from: 'shop/waypoint', to: 'api', closed: 6, failed: 5, failures: { policy_denied: 4, connection_refused: 1 } },
    ]);
  });
});
