import '../styles/graph.css';

import { useCallback, useDeferredValue, useMemo, useRef, useState, useSyncExternalStore } from 'react';

import { useGraph } from '../api/graph';
import { useOutages } from '../api/outages';
import { useRange } from '../api/queries';
import { patchQuery, useLocation, useParam } from '../app/router';
import { Icon } from '../components/Icon';
import { Empty, Failure, Loading } from '../components/State';
import { GRAPH_FIELDS, parseExpression, type Predicate } from '../domain/expression';
import { plural } from '../domain/format';
import { secondsOf } from '../domain/metrics';
import { save } from '../domain/save';
import { formatWindow, toRFC3339 } from '../domain/time';
import { dataNow } from '../api/live';
import { Canvas, type CanvasHandle } from './Canvas';
import { CompareBar } from './CompareBar';
import { toSVG } from './export';
import type { EdgeColour, EdgeLabel, EdgeWidth } from './labels';
import { EDGE_LABELS } from './labels';
import { Legend } from './Legend';
import { buildView, type Boxing } from './model';
import { SidePanel } from './SidePanel';
import { DEFAULT_LABELS, Toolbar } from './Toolbar';
import { useLayout } from './useLayout';

/** From here on the page offers to fold. */
const LARGE_NODES = 250;
/** The controls lie over the graph's left, on a narrow screen over its bottom. */
const CONTROLS = { beside: { left: 52, bottom: 0 }, below: { left: 0, bottom: 52 } };

export default function GraphPage() {
  const range = useRange();
  const { query } = useLocation();
  const group = query.get('group') ?? 'workload';
  const namespace = query.get('namespace') ?? '';
  const waypoints = query.get('waypoints') === 'show' ? 'show' : undefined;
  const dns = query.get('dns') === 'show' ? 'show' : undefined;
  const params = { group_by: group, namespace: namespace || undefined, waypoints, dns };
  const { data: graph, error, isPending, refetch } = useGraph(params, { range });
  const { data: outages } = useOutages();

  const boxing = group === 'namespace' ? 'none' : ((query.get('box') ?? 'namespace') as Boxing);
  const foldText = query.get('fold') ?? '';
  const focus = query.get('focus') ?? undefined;
  const depth = Math.max(1, Math.min(9, Number(query.get('depth') ?? 1) || 1));
  const chosen = query.get('sel') ?? undefined;
  const labels = query.get('labels') ?? DEFAULT_LABELS;
  const width = (query.get('width') ?? 'none') as EdgeWidth;
  const colour = (query.get('colour') ?? 'health') as EdgeColour;
  const find = useDeferredValue(query.get('find') ?? '');
  const hide = useDeferredValue(query.get('hide') ?? '');

  const folded = useMemo(() => new Set(foldText.split(',').filter(Boolean)), [foldText]);
  const view = useMemo(
    () => graph && buildView(graph, { boxing, folded, find: predicate(find), hide: predicate(hide), focus, depth, outages: outages?.outages ?? [] }),
    [graph, boxing, folded, find, hide, focus, depth, outages],
  );
  // With every box folded it is another, far smaller picture, and has a layout of its own.
  const whole = view !== undefined && view.boxes.length === 0 && view.nodes.some((node) => node.folded);
  const { positions, ready, round, tidy, move } = useLayout(view, `${group} ${boxing}${whole ? ' folded' : ''}${waypoints ? ' waypoints' : ''}${dns ? ' dns' : ''}`, {
    direction: useMedia(portrait) ? 'down' : 'right',
    part: namespace !== '' || focus !== undefined || hide !== '',
  });
  const options = useMemo(
    () => ({ labels: labels.split(',').filter((label): label is EdgeLabel => label in EDGE_LABELS), width, colour, chosen }),
    [labels, width, colour, chosen],
  );

  const covered = useMedia(narrow) ? CONTROLS.below : CONTROLS.beside;

  const canvas = useRef<CanvasHandle>(null);
  const choose = useCallback((id: string | undefined) => patchQuery({ sel: id }, { replace: true }), []);
  const toggleFold = useCallback(
    (id: string) => {
      const next = new Set(folded);
      if (next.has(id)) next.delete(id);
      else next.add(id);
      patchQuery({ fold: [...next].join(','), sel: undefined });
    },
    [folded],
  );
  const open = useCallback(
    (id: string) => {
      if (folded.has(id) || view?.boxes.some((box) => box.id === id)) toggleFold(id);
      else patchQuery({ focus: focus === id ? undefined : id, sel: id });
    },
    [folded, view, toggleFold, focus],
  );

  const namespaces = useMemo(() => [...new Set((graph?.nodes ?? []).map((node) => node.namespace).filter(Boolean))].sort(), [graph]);
  const seconds = graph ? secondsOf(graph) : range.seconds;
  const drawn = ready && positions ? ready : undefined;

  return (
    <div className="graph-page">
      <h1 className="visually-hidden">Graph</h1>
      <Toolbar namespaces={namespaces} found={view?.found} hidden={view?.hidden ?? 0} />
      {focus && <FocusBar name={graph?.nodes.find((node) => node.id === focus)?.name ?? focus} depth={depth} />}
      {view && view.nodes.length > LARGE_NODES && folded.size === 0 && view.boxes.length > 1 && (
        <div className="context-bar">
          <Icon name="info" size={14} /> {plural(view.nodes.length, 'node')}: folded boxes show how namespaces depend on each other.
          <button type="button" className="button small" onClick={() => patchQuery({ fold: outermost(view.boxes.map((box) => box.id)).join(',') })}>
            <Icon name="fold" size={13} /> Fold all
          </button>
        </div>
      )}
      {query.get('vs') && graph && <CompareBar graph={graph} params={params} choose={choose} />}
      <div className="graph-body">
        <div className="graph-stage">
          {error && !graph ? (
            <Failure error={error} retry={() => void refetch()} />
          ) : isPending ? (
            <Loading what="the graph" />
          ) : view && view.nodes.length === 0 ? (
            view.hidden > 0 ? (
              <Empty what="Everything is hidden">The hide expression or the focus takes all nodes away.</Empty>
            ) : (
              <Empty what={`No traffic in ${range.at === undefined ? 'the last' : 'these'} ${formatWindow(range.seconds)}`} />
            )
          ) : drawn && positions ? (
            <>
              <Canvas
                ref={canvas}
                view={drawn}
                positions={positions}
                round={round}
                options={options}
                covered={covered}
                animate={query.get('traffic') === '1'}
                label={`Service graph: ${plural(drawn.nodes.length, 'node')}, ${plural(drawn.edges.length, 'edge')}, ${drawn.nodes.filter((node) => node.health === 'failing').length} failing`}
                onChoose={choose}
                onOpen={open}
                onMoved={move}
              />
              <Controls canvas={canvas} tidy={tidy} colour={colour} boxes={view!.boxes.map((box) => box.id)} folded={folded} />
            </>
          ) : (
            <Loading what="the layout" />
          )}
          <p className="visually-hidden" role="status">
            {chosen && view?.nodes.find((node) => node.id === chosen)?.label}
          </p>
        </div>
        {chosen && view && (
          <SidePanel
            view={view}
            seconds={seconds}
            chosen={chosen}
            focused={focus === chosen}
            close={() => choose(undefined)}
            choose={choose}
            fold={toggleFold}
            focus={(id) => patchQuery({ focus: id })}
          />
        )}
      </div>
    </div>
  );
}

/** The boxes that fold a graph as far as it goes: namespaces where there are any. */
function outermost(boxes: string[]): string[] {
  const namespaces = boxes.filter((id) => id.startsWith('ns:'));
  return namespaces.length > 0 ? namespaces : boxes;
}

function predicate(text: string): Predicate | undefined {
  try {
    return parseExpression(text, GRAPH_FIELDS);
  } catch {
    // The field itself says what is wrong; until it parses, nothing is found or hidden.
    return undefined;
  }
}

const portrait = window.matchMedia('(max-aspect-ratio: 1/1)');

const narrow = window.matchMedia('(max-width: 500px)');

function useMedia(media: MediaQueryList): boolean {
  return useSyncExternalStore(
    (changed) => {
      media.addEventListener('change', changed);
      return () => media.removeEventListener('change', changed);
    },
    () => media.matches,
  );
}

function FocusBar({ name, depth }: { name: string; depth: number }) {
  const [, setDepth] = useParam('depth', '1');
  return (
    <div className="context-bar">
      <Icon name="graph" size={14} /> Neighbours of <b>{name}</b>
      <label className="field">
        at most
        <select className="select" value={depth} onChange={(event) => setDepth(event.target.value)}>
          {[1, 2, 3, 4, 5].map((hops) => (
            <option key={hops} value={hops}>
              {plural(hops, 'hop')}
            </option>
          ))}
        </select>
        away
      </label>
      <button type="button" className="button small plain" onClick={() => patchQuery({ focus: undefined, depth: undefined })}>
        <Icon name="close" size={12} /> Show all
      </button>
    </div>
  );
}

interface ControlsProps {
  canvas: React.RefObject<CanvasHandle | null>;
  tidy: () => void;
  colour: EdgeColour;
  boxes: string[];
  folded: ReadonlySet<string>;
}

function Controls({ canvas, tidy, colour, boxes, folded }: ControlsProps) {
  const [traffic, setTraffic] = useParam('traffic', '');
  const [legend, setLegend] = useState(false);
  const renderer = () => canvas.current?.renderer();
  const name = () => `graph-${toRFC3339(dataNow()).slice(0, 19).replace(/:/g, '')}`;
  return (
    <>
      <div className="graph-controls card" role="toolbar" aria-label="Graph view" aria-orientation="vertical">
        <Control icon="plus" label="Zoom in" run={() => renderer()?.zoomBy(1.25)} />
        <Control icon="minus" label="Zoom out" run={() => renderer()?.zoomBy(0.8)} />
        <Control icon="fit" label="Fit the graph" run={() => renderer()?.fit()} />
        <hr />
        <Control
          icon="tidy"
          label="Lay out anew"
          run={() => {
            tidy();
            setTimeout(() => renderer()?.fit(), 350);
          }}
        />
        <Control
          icon={folded.size > 0 ? 'unfold' : 'fold'}
          label={folded.size > 0 ? 'Unfold all boxes' : 'Fold all boxes'}
          run={() => patchQuery({ fold: folded.size > 0 ? undefined : outermost(boxes).join(','), sel: undefined })}
        />
        <Control icon={traffic ? 'pause' : 'play'} label={traffic ? 'Stop showing traffic' : 'Show traffic moving'} pressed={traffic !== ''} run={() => setTraffic(traffic ? '' : '1')} />
        <hr />
        <Control icon="legend" label="Legend" pressed={legend} run={() => setLegend(!legend)} />
        <Control text="SVG" label="Download as SVG" run={() => { const one = renderer(); const scene = one?.scene(); if (one && scene) save(new Blob([toSVG(scene, one.colours(), colour !== 'health')], { type: 'image/svg+xml' }), `${name()}.svg`); }} />
        <Control text="PNG" label="Download as PNG" run={() => void renderer()?.png().then((blob) => save(blob, `${name()}.png`))} />
      </div>
      {legend && <Legend close={() => setLegend(false)} />}
    </>
  );
}

function Control({ icon, text, label, pressed, run }: { icon?: React.ComponentProps<typeof Icon>['name']; text?: string; label: string; pressed?: boolean; run: () => void }) {
  return (
    <button type="button" className="button icon-only plain" title={label} aria-label={label} {...(pressed !== undefined ? { 'aria-pressed': pressed } : {})} onClick={run}>
      {icon ? <Icon name={icon} /> : <span className="control-text">{text}</span>}
    </button>
  );
}
