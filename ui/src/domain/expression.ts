/**
 * The small language of the graph's find and hide fields and of the flows' filter:
 *
 *   expression = and { "or" and } ;  and = not { ["and"] not } ;  not = ["not"] atom ;
 *   atom = "(" expression ")" | field op value | value
 *
 * A bare value matches names. Numbers take units: p95 > 1s, bytes > 2MB, failures > 5%.
 */

export type Value = string | number | boolean | string[] | undefined;
/** What an element says of a field; undefined when the field does not apply to it, which no comparison matches. */
export type Lookup = (field: string) => Value;
export interface Predicate {
  (lookup: Lookup): boolean;
  /** Comparisons that all hold of whatever it picks. */
  must?: Comparison[];
}

export interface Comparison {
  field: string;
  op: Op;
  value: string;
}

export class ExpressionError extends Error {
  constructor(
    message: string,
    readonly position: number,
  ) {
    super(message);
    this.name = 'ExpressionError';
  }
}

export type Op = '=' | '!=' | '~' | '!~' | '>' | '>=' | '<' | '<=';
type Token = { kind: 'op' | 'word' | 'text' | '(' | ')'; text: string; at: number };

/** The fields that an expression may compare, with what they mean. */
export type Fields = Readonly<Record<string, string>>;

/** Those of the graph's nodes and edges. */
export const GRAPH_FIELDS: Fields = {
  name: 'name of the workload, or of either end of an edge',
  namespace: 'namespace, of either end of an edge',
  app: 'canonical service',
  version: 'canonical revision',
  health: 'healthy, degraded, failing, idle or unknown',
  mesh: 'true when in the mesh',
  node: 'a Kubernetes node that runs one of its pods',
  source: 'client of an edge',
  destination: 'server of an edge',
  service: 'service host name of an edge',
  port: 'destination port',
  protocol: 'tcp, http, grpc or messaging',
  mtls: 'true when all of an edge is mutual TLS',
  waypoint: 'waypoint that an edge passes',
  rate: 'connections or requests a second',
  connections: 'connections a second',
  requests: 'requests a second',
  failures: 'share that fails, as 0.05 or 5%',
  failed: 'connections and requests that failed',
  failure: 'a failure type, as policy_denied',
  active: 'open connections',
  bytes: 'bytes a second, both ways',
  p50: 'median response time in milliseconds',
  p90: 'response time',
  p95: 'response time',
  p99: 'response time',
};

const ALIASES: Record<string, string> = { ns: 'namespace', src: 'source', dst: 'destination', dest: 'destination', errors: 'failures', throughput: 'bytes', rps: 'rate', in_mesh: 'mesh', error: 'failure' };

const UNITS: Record<string, number> = {
  '%': 0.01, us: 0.001, µs: 0.001, ms: 1, s: 1000, m: 60_000, k: 1e3,
  b: 1, kb: 1e3, mb: 1e6, gb: 1e9, kib: 1024, mib: 1024 ** 2, gib: 1024 ** 3,
};

const MAX_LENGTH = 500;
const MAX_DEPTH = 32;

/** Compiles an expression over some fields; an empty one gives undefined. Throws an ExpressionError that says where it does not parse. */
export function parseExpression(source: string, fields: Fields): Predicate | undefined {
  if (source.trim() === '') return undefined;
  if (source.length > MAX_LENGTH) throw new ExpressionError(`longer than ${MAX_LENGTH} characters`, MAX_LENGTH);
  const parser = new Parser(tokenize(source), source.length, fields);
  return parser.parse();
}

function tokenize(source: string): Token[] {
  const tokens: Token[] = [];
  const pattern = /\s+|(!=|!~|>=|<=|==|&&|\|\||[=~<>()!])|"((?:[^"\\]|\\.)*)"|([^\s=~<>()!"&|]+)/gy;
  while (pattern.lastIndex < source.length) {
    const at = pattern.lastIndex;
    const match = pattern.exec(source);
    if (!match) throw new ExpressionError(`"${source.charAt(at)}" does not belong here`, at);
    const [, op, text, word] = match;
    if (op === '(' || op === ')') tokens.push({ kind: op, text: op, at });
    else if (op === '&&' || op === '||' || op === '!') tokens.push({ kind: 'word', text: { '&&': 'and', '||': 'or', '!': 'not' }[op], at });
    else if (op !== undefined) tokens.push({ kind: 'op', text: op === '==' ? '=' : op, at });
    else if (text !== undefined) tokens.push({ kind: 'text', text: text.replace(/\\(.)/g, '$1'), at });
    else if (word !== undefined) tokens.push({ kind: 'word', text: word, at });
  }
  return tokens;
}

class Parser {
  private next = 0;
  private depth = 0;

  constructor(
    private readonly tokens: Token[],
    private readonly end: number,
    private readonly fields: Fields,
  ) {}

  parse(): Predicate {
    const predicate = this.or();
    const rest = this.peek();
    if (rest) throw new ExpressionError(`"${rest.text}" does not belong here`, rest.at);
    return predicate;
  }

  private peek(): Token | undefined {
    return this.tokens[this.next];
  }

  private isWord(text: string): boolean {
    const token = this.peek();
    return token?.kind === 'word' && token.text.toLowerCase() === text;
  }

  private or(): Predicate {
    let left = this.and();
    while (this.isWord('or')) {
      this.next++;
      const [a, b] = [left, this.and()];
      left = (lookup) => a(lookup) || b(lookup);
    }
    return left;
  }

  private and(): Predicate {
    let left = this.not();
    for (;;) {
      const token = this.peek();
      if (!token || token.kind === ')' || this.isWord('or')) return left;
      if (this.isWord('and')) this.next++;
      const [a, b] = [left, this.not()];
      left = Object.assign((lookup: Lookup) => a(lookup) && b(lookup), { must: [...(a.must ?? []), ...(b.must ?? [])] });
    }
  }

  private not(): Predicate {
    if (++this.depth > MAX_DEPTH) throw new ExpressionError('nested too deeply', this.peek()?.at ?? this.end);
    try {
      if (!this.isWord('not')) return this.atom();
      this.next++;
      const inner = this.not();
      return (lookup) => !inner(lookup);
    } finally {
      this.depth--;
    }
  }

  private atom(): Predicate {
    const token = this.peek();
    if (!token) throw new ExpressionError('something is missing at the end', this.end);
    if (token.kind === '(') {
      this.next++;
      const inner = this.or();
      if (this.peek()?.kind !== ')') throw new ExpressionError('")" is missing', this.peek()?.at ?? this.end);
      this.next++;
      return inner;
    }
    if (token.kind === 'op' || token.kind === ')') throw new ExpressionError(`"${token.text}" does not belong here`, token.at);
    this.next++;
    const op = this.peek();
    if (token.kind === 'word' && op?.kind === 'op') {
      this.next++;
      const value = this.peek();
      if (!value || (value.kind !== 'word' && value.kind !== 'text')) {
        throw new ExpressionError(`a value is missing after "${op.text}"`, value?.at ?? this.end);
      }
      this.next++;
      return comparison(this.fields, token, op.text as Op, value);
    }
    return bare(token);
  }
}

/** "failing" or "cart" alone. */
function bare(token: Token): Predicate {
  const text = token.text.toLowerCase();
  if (token.kind === 'word' && ['healthy', 'degraded', 'failing', 'denied', 'idle', 'unknown'].includes(text)) {
    return (lookup) => lookup('health') === text;
  }
  if (token.kind === 'word' && text === 'mtls') return (lookup) => lookup('mtls') === true;
  return (lookup) => strings(lookup('name')).some((name) => name.toLowerCase().includes(text));
}

function comparison(fields: Fields, field: Token, op: Op, value: Token): Predicate {
  const written = field.text.toLowerCase();
  const name = Object.hasOwn(fields, written) ? written : (ALIASES[written] ?? written);
  if (!Object.hasOwn(fields, name)) throw new ExpressionError(`there is no field "${field.text}"`, field.at);
  return Object.assign(compared(name, op, value), { must: [{ field: name, op, value: value.text }] });
}

function compared(name: string, op: Op, value: Token): Predicate {
  switch (op) {
    case '=':
      return equals(name, value.text);
    case '!=': {
      const same = equals(name, value.text);
      return (lookup) => lookup(name) !== undefined && !same(lookup);
    }
    case '~':
    case '!~': {
      const pattern = compile(value);
      return (lookup) => {
        const found = lookup(name);
        return found !== undefined && strings(found).some((text) => pattern.test(text)) === (op === '~');
      };
    }
    default: {
      const limit = numberOf(value);
      const compare = { '>': (x: number) => x > limit, '>=': (x: number) => x >= limit, '<': (x: number) => x < limit, '<=': (x: number) => x <= limit }[op];
      return (lookup) => {
        const found = lookup(name);
        return typeof found === 'number' && compare(found);
      };
    }
  }
}

function equals(name: string, text: string): Predicate {
  const lower = text.toLowerCase();
  const pattern = lower.includes('*') ? new RegExp(`^${lower.split('*').map(escape).join('.*')}$`) : undefined;
  const number = tryNumber(lower);
  return (lookup) => {
    const found = lookup(name);
    if (found === undefined) return false;
    if (typeof found === 'number') return number !== undefined && Math.abs(found - number) < 1e-9;
    if (typeof found === 'boolean') return found === ['true', 'yes', '1'].includes(lower);
    return strings(found).some((one) => (pattern ? pattern.test(one.toLowerCase()) : one.toLowerCase() === lower));
  };
}

function compile(value: Token): RegExp {
  try {
    return new RegExp(value.text, 'i');
  } catch {
    throw new ExpressionError(`"${value.text}" is not a regular expression`, value.at);
  }
}

function numberOf(value: Token): number {
  const number = tryNumber(value.text.toLowerCase());
  if (number === undefined) throw new ExpressionError(`"${value.text}" is not a number`, value.at);
  return number;
}

function tryNumber(text: string): number | undefined {
  const match = /^(-?\d+(?:\.\d+)?)([a-zµ%]*)(?:\/s)?$/.exec(text);
  if (!match) return undefined;
  const unit = match[2] === '' ? 1 : UNITS[match[2]!];
  return unit === undefined ? undefined : Number(match[1]) * unit;
}

function strings(value: Value): string[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [String(value)];
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
