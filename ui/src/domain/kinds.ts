import { LABELS } from './reasons';

/** An outage's kind or a failure's reason in words. The API's name stands where this build does not know one. */
export function kindLabel(kind: string): string {
  return LABELS[kind] ?? sentence(kind);
}

const SOURCES: Record<string, string> = { access_log: 'Access log', config_dump: 'Config dump', metrics: 'Metrics', spans: 'Spans', xds: 'xDS' };

/** What a source of telemetry is called. */
export function sourceLabel(source: string): string {
  return SOURCES[source] ?? sentence(source);
}

const PROBLEMS: Record<string, string> = {
  not_understood: 'is not understood', level_too_low: 'leaves out successes', silent: 'is silent', clock_ahead: 'has a clock that is ahead', clock_behind: 'has a clock that is behind',
  refused: 'is refused', dropped: 'is dropped in part',
};

/** What is wrong with a source, within a sentence. */
export function problemLine({ source, node, problem }: { source: string; node?: string; problem?: string }): string {
  return `${inText(sourceLabel(source))}${node ? ` of ${node}` : ''} ${problem ? (PROBLEMS[problem] ?? inText(sentence(problem))) : 'fails'}`;
}

/** A label within a sentence: "Access log" gives "access log", "xDS" stays. */
export function inText(label: string): string {
  return /^[A-Z][a-z]/.test(label) ? label.charAt(0).toLowerCase() + label.slice(1) : label;
}

/** "depends_on" gives "Depends on". */
export function sentence(name: string): string {
  const words = name.replace(/_/g, ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}
