/** Points of a series: unix seconds and a value, null where there is none. */
export type Points = readonly (readonly [number, number | null])[];

export interface Around {
  before: number | undefined;
  during: number | undefined;
  after: number | undefined;
}

/** The means of a series before, during and after a time, in unix seconds; a point stands for the time that ends with it. */
export function meansAround(points: Points, from: number, to: number): Around {
  const sums = { before: 0, during: 0, after: 0 };
  const times = { before: new Set<number>(), during: new Set<number>(), after: new Set<number>() };
  for (const [time, value] of points) {
    if (value === null) continue;
    const when = time <= from ? 'before' : time <= to ? 'during' : 'after';
    sums[when] += value;
    times[when].add(time); // several series have a point each at one time
  }
  const mean = (when: keyof typeof sums) => (times[when].size > 0 ? sums[when] / times[when].size : undefined);
  return { before: mean('before'), during: mean('during'), after: mean('after') };
}
