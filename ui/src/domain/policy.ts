/**
 * An AuthorizationPolicy's rules in words. istiod sends them in groups (istio/istio pkg/workloadapi/security/authorization.proto):
 * a group matches when all of its rules do, a rule when it has no matches or one of them does, and a match when each of its
 * fields does; one without fields matches nothing. The policy acts on what any group matches.
 */

interface Words {
  exact?: string;
  prefix?: string;
  suffix?: string;
  presence?: unknown;
}

interface Account {
  namespace?: string;
  serviceAccount?: string;
}

interface Block {
  address?: string;
  length?: number;
}

export interface PolicyMatch {
  namespaces?: Words[];
  notNamespaces?: Words[];
  principals?: Words[];
  notPrincipals?: Words[];
  serviceAccounts?: Account[];
  notServiceAccounts?: Account[];
  sourceIps?: Block[];
  notSourceIps?: Block[];
  destinationIps?: Block[];
  notDestinationIps?: Block[];
  destinationPorts?: number[];
  notDestinationPorts?: number[];
}

interface Group {
  rules?: { matches?: PolicyMatch[] }[];
}

/** Which conditions this build can say; one that it cannot must not be passed over in silence. */
const KNOWN = new Set([
  'namespaces', 'notNamespaces', 'principals', 'notPrincipals', 'serviceAccounts', 'notServiceAccounts', 'sourceIps', 'notSourceIps', 'destinationIps', 'notDestinationIps', 'destinationPorts', 'notDestinationPorts',
]);

/** One sentence for each group; undefined where the rules are not of that form or hold what has no words here. */
export function policySentences(action: string, rules: unknown): string[] | undefined {
  const groups = parse(rules);
  if (!Array.isArray(groups)) return undefined;
  const deny = action === 'DENY';
  const verb = deny ? 'Denies' : action === 'ALLOW' ? 'Allows' : undefined;
  if (!verb) return undefined;
  if (groups.length === 0) return [deny ? 'Denies nothing: it has no rules.' : 'Allows nothing: it has no rules, so every connection to what it selects is refused.'];
  const sentences: string[] = [];
  for (const group of groups as Group[]) {
    const conditions: string[] = [];
    let never = false;
    for (const rule of group.rules ?? []) {
      const text = ruleText(rule);
      if (text === undefined) return undefined;
      if (text === NEVER) never = true;
      else if (text !== '') conditions.push(text);
    }
    sentences.push(never ? `${verb} nothing: one of its conditions matches nothing.` : `${verb} ${conditions.length === 0 ? 'every connection' : `connections ${conditions.join(conditions.some((text) => text.includes(', or ')) ? ', and ' : ' ')}`}.`);
  }
  if (!deny) sentences.push('What no allowing policy lets through to what it selects is refused.');
  return sentences;
}

function parse(rules: unknown): unknown {
  if (typeof rules !== 'string') return rules ?? [];
  try {
    return JSON.parse(rules || '[]');
  } catch {
    return undefined;
  }
}

const NEVER = Symbol('matches nothing');

/** Empty where the rule matches everything, undefined where there are no words for it. */
function ruleText(rule: { matches?: PolicyMatch[] }): string | typeof NEVER | undefined {
  const matches = rule.matches ?? [];
  if (matches.some((match) => Object.keys(match).some((key) => !KNOWN.has(key)))) return undefined;
  if (matches.length === 0) return '';
  const texts = matches.map(matchText).filter(Boolean);
  return texts.length === 0 ? NEVER : texts.join(', or ');
}

function matchText(match: PolicyMatch): string {
  const parts = [
    phrase('from', 'namespace', words(match.namespaces)),
    phrase('not from', 'namespace', words(match.notNamespaces)),
    phrase('from', 'identity', words(match.principals, principal), 'identities'),
    phrase('not from', 'identity', words(match.notPrincipals, principal), 'identities'),
    phrase('from', 'service account', match.serviceAccounts?.map(account)),
    phrase('not from', 'service account', match.notServiceAccounts?.map(account)),
    phrase('from', 'address', match.sourceIps?.map(block), 'addresses'),
    phrase('not from', 'address', match.notSourceIps?.map(block), 'addresses'),
    phrase('to', 'address', match.destinationIps?.map(block), 'addresses'),
    phrase('to any address but', '', match.notDestinationIps?.map(block)),
    phrase('to', 'port', match.destinationPorts?.map(String)),
    phrase('to any port but', '', match.notDestinationPorts?.map(String)),
  ];
  return parts.filter(Boolean).join(' ');
}

function phrase(preposition: string, noun: string, list: string[] | undefined, many = `${noun}s`): string {
  if (!list || list.length === 0) return '';
  if (list.includes(ANY)) return `${preposition} any ${noun}`;
  // Of several that are excluded none may be it.
  const joined = enumerate(list, preposition.startsWith('not') || preposition.endsWith('but') ? 'nor' : 'or');
  return [preposition, noun && (list.length === 1 ? noun : many), joined].filter(Boolean).join(' ');
}

function enumerate(list: string[], conjunction: string): string {
  return list.length === 1 ? list[0]! : `${list.slice(0, -1).join(', ')} ${conjunction} ${list.at(-1)}`;
}

const ANY = 'any';

function words(list: Words[] | undefined, name: (text: string) => string = (text) => text): string[] | undefined {
  return list?.map(({ exact, prefix, suffix }) => {
    if (exact !== undefined) return name(exact);
    if (prefix !== undefined) return `beginning with ${prefix}`;
    if (suffix !== undefined) return `ending with ${suffix}`;
    return ANY;
  });
}

/** "cluster.local/ns/shop/sa/checkout" gives "shop/checkout". */
function principal(text: string): string {
  const match = /^(?:spiffe:\/\/)?([^/]+)\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(text);
  if (!match) return text;
  return `${match[2]}/${match[3]}${match[1] === 'cluster.local' ? '' : ` of ${match[1]}`}`;
}

function account({ namespace, serviceAccount }: Account): string {
  return [namespace, serviceAccount].filter(Boolean).join('/');
}

/** protobuf's JSON writes addresses as base64 of their bytes. */
function block({ address, length }: Block): string {
  let bytes: number[] = [];
  try {
    bytes = [...atob(address ?? '')].map((char) => char.charCodeAt(0));
  } catch {
    // Not base64: an address in text form.
  }
  const text = bytes.length === 4 ? bytes.join('.') : bytes.length === 16 ? ipv6(bytes) : (address ?? '');
  return length === undefined || length === bytes.length * 8 ? text : `${text}/${length}`;
}

function ipv6(bytes: number[]): string {
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i]! << 8) | bytes[2 * i + 1]!).toString(16));
  return groups.join(':').replace(/\b0(?::0)+\b/, ':').replace(/:{3,}/, '::').replace(/^:(?!:)/, '::').replace(/([^:]):$/, '$1::');
}
