import { useId, useRef, useState } from 'react';

import type { GroupBy } from '../api/types';
import { useDismiss } from '../app/TimeControl';
import { useParam } from '../app/router';
import { ExpressionField } from '../components/ExpressionField';
import { Icon } from '../components/Icon';
import { GRAPH_FIELDS } from '../domain/expression';
import { EDGE_COLOURS, EDGE_LABELS, EDGE_WIDTHS, type EdgeLabel } from './labels';

/** What nodes may stand for: one label for each way that the API groups. */
const GROUPS: Record<GroupBy, string> = { workload: 'Workloads', service: 'Services', app: 'Apps', namespace: 'Namespaces' };
export const BOXINGS = { namespace: 'Namespaces', app: 'Apps', both: 'Namespaces and apps', none: 'No boxes' } as const;
export const DEFAULT_LABELS = 'rate,p95';

interface Props {
  namespaces: string[];
  found: number | undefined;
  hidden: number;
}

export function Toolbar({ namespaces, found, hidden }: Props) {
  const [group, setGroup] = useParam('group', 'workload');
  const [namespace, setNamespace] = useParam('namespace', '');
  const [find, setFind] = useParam('find', '', { replace: true });
  const [hide, setHide] = useParam('hide', '', { replace: true });
  return (
    <div className="graph-toolbar toolbar">
      <div className="button-group" role="group" aria-label="Nodes stand for">
        {Object.entries(GROUPS).map(([value, label]) => (
          <button key={value} type="button" className="button" aria-pressed={group === value} onClick={() => setGroup(value)}>
            {label}
          </button>
        ))}
      </div>
      <select className="select" aria-label="Namespace" value={namespace} onChange={(event) => setNamespace(event.target.value)}>
        <option value="">All namespaces</option>
        {[...new Set(namespace ? [namespace, ...namespaces] : namespaces)].map((name) => (
          <option key={name}>{name}</option>
        ))}
      </select>
      <Display />
      <ExpressionField fields={GRAPH_FIELDS} label="Find" placeholder="Find: health=failing, p95>100…" value={find} set={setFind} note={find && found !== undefined ? `${found} found` : ''} />
      <ExpressionField fields={GRAPH_FIELDS} label="Hide" placeholder="Hide: idle, rate<1…" value={hide} set={setHide} note={hide && hidden > 0 ? `${hidden} hidden` : ''} />
    </div>
  );
}

function Display() {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  useDismiss(root, open, () => setOpen(false));
  const [box, setBox] = useParam('box', 'namespace');
  const [labels, setLabels] = useParam('labels', DEFAULT_LABELS);
  const [width, setWidth] = useParam('width', 'none');
  const [colour, setColour] = useParam('colour', 'health');
  const [waypoints, setWaypoints] = useParam('waypoints', 'hide');
  const [dns, setDns] = useParam('dns', 'failing');
  const chosen = new Set(labels.split(','));
  const toggle = (label: EdgeLabel) => {
    if (chosen.has(label)) chosen.delete(label);
    else chosen.add(label);
    setLabels(Object.keys(EDGE_LABELS).filter((one) => chosen.has(one)).join(',') || 'off');
  };
  return (
    <div className="popover-root" ref={root}>
      <button type="button" className="button" aria-haspopup="dialog" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="filter" size={14} /> Display <Icon name="chevronDown" size={12} />
      </button>
      {open && (
        <div className="popover left display-popover" role="dialog" aria-label="Display">
          <fieldset>
            <legend>Edge labels</legend>
            {(Object.entries(EDGE_LABELS) as [EdgeLabel, string][]).map(([value, label]) => (
              <label key={value} className="check">
                <input type="checkbox" checked={chosen.has(value)} onChange={() => toggle(value)} /> {label}
              </label>
            ))}
          </fieldset>
          <fieldset>
            <legend>Nodes</legend>
            <label className="check">
              <input type="checkbox" checked={waypoints === 'show'} onChange={() => setWaypoints(waypoints === 'show' ? 'hide' : 'show')} /> Waypoints
            </label>
            <label className="check">
              <input type="checkbox" checked={dns === 'show'} onChange={() => setDns(dns === 'show' ? 'failing' : 'show')} /> Who asks for names
            </label>
          </fieldset>
          <Choice title="Boxes" options={BOXINGS} value={box} set={setBox} />
          <Choice title="Edge width" options={EDGE_WIDTHS} value={width} set={setWidth} />
          <Choice title="Edge colour" options={EDGE_COLOURS} value={colour} set={setColour} />
        </div>
      )}
    </div>
  );
}

function Choice({ title, options, value, set }: { title: string; options: Record<string, string>; value: string; set: (value: string) => void }) {
  const name = useId();
  return (
    <fieldset>
      <legend>{title}</legend>
      {Object.entries(options).map(([option, label]) => (
        <label key={option} className="check">
          <input type="radio" name={name} checked={value === option} onChange={() => set(option)} /> {label}
        </label>
      ))}
    </fieldset>
  );
}
