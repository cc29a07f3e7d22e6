import '../styles/palette.css';

import { useEffect, useMemo, useRef, useState } from 'react';

import { useWorkloadGraph } from '../api/graph';
import { useOutages } from '../api/outages';
import { shownNow } from '../api/queries';
import { HealthIcon } from '../components/HealthMark';
import { Icon, type IconName } from '../components/Icon';
import { href, navigate, pathOf, type Patch } from './router';
import { NAV } from './nav';
import { summaryOf } from '../domain/outages';
import { toggleTheme } from './theme';

interface Command {
  id: string;
  label: string;
  hint: string;
  icon: IconName | 'healthy' | 'failing' | 'degraded' | 'denied' | 'idle' | 'unknown';
  run: () => void;
}

const LIMIT = 60;

/** Jumps to anything by typing a part of its name. */
export default function CommandPalette({ close }: { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const list = useRef<HTMLUListElement>(null);
  const [text, setText] = useState('');
  const [active, setActive] = useState(0);
  const { data: graph } = useWorkloadGraph({ everyMs: 10_000 });
  const { data: outages } = useOutages();

  useEffect(() => {
    dialog.current?.showModal();
  }, []);

  const commands = useMemo<Command[]>(() => {
    const go = (path: string, params?: Patch) => () => navigate(href(path, params));
    const workloads = (graph?.nodes ?? []).map((node): Command => ({
      id: `w:${node.id}`,
      label: node.name,
      hint: node.namespace || 'outside the mesh',
      icon: node.health,
      run: node.in_mesh || node.namespace ? go(pathOf('workloads', node.namespace || '-', node.name)) : go('/graph', { sel: node.id }),
    }));
    const shown = (graph?.nodes ?? []).map((node): Command => ({ id: `g:${node.id}`, label: `Show ${node.name} on the graph`, hint: node.namespace, icon: 'graph', run: go('/graph', { sel: node.id, focus: node.id }) }));
    const services = [...new Set((graph?.edges ?? []).map((edge) => edge.service).filter((service): service is string => !!service))].map((service): Command => {
      const [name = service, namespace = ''] = service.split('.');
      return { id: `s:${service}`, label: service, hint: 'service', icon: 'services', run: go(pathOf('services', namespace, name)) };
    });
    return [
      ...(outages?.outages ?? []).map((outage): Command => ({
        id: `o:${outage.id}`, label: summaryOf(outage, shownNow()), hint: outage.state, icon: outage.state === 'open' ? (outage.severity === 'critical' ? 'failing' : 'degraded') : 'outage', run: go(pathOf('outages', outage.id)),
      })),
      ...NAV.map((item): Command => ({ id: `p:${item.path}`, label: item.label, hint: 'page', icon: item.icon, run: go(item.path) })),
      ...workloads,
      ...services,
      ...shown,
      { id: 'theme', label: 'Switch between light and dark', hint: 'preference', icon: 'moon', run: toggleTheme },
    ];
  }, [graph, outages]);

  const found = useMemo(() => search(commands, text), [commands, text]);
  const chosen = Math.min(active, found.length - 1);
  useEffect(() => {
    list.current?.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: 'nearest' });
  }, [chosen]);

  const run = (command: Command | undefined) => {
    if (!command) return;
    close();
    command.run();
  };

  return (
    <dialog ref={dialog} className="palette" aria-label="Go to" onClose={close} onClick={(event) => event.target === dialog.current && close()}>
      <div className="palette-input">
        <Icon name="search" />
        <input
          autoFocus
          value={text}
          placeholder="Workload, service, outage or page"
          role="combobox"
          aria-label="Go to"
          aria-expanded="true"
          aria-controls="palette-list"
          aria-activedescendant={chosen >= 0 ? `palette-${chosen}` : undefined}
          onChange={(event) => {
            setText(event.target.value);
            setActive(0);
          }}
          onKeyDown={(event) => {
            if (event.key === 'ArrowDown') setActive(Math.min(chosen + 1, found.length - 1));
            else if (event.key === 'ArrowUp') setActive(Math.max(chosen - 1, 0));
            else if (event.key === 'Enter') run(found[chosen]);
            else return;
            event.preventDefault();
          }}
        />
        <kbd>Esc</kbd>
      </div>
      <ul ref={list} id="palette-list" role="listbox" aria-label="Found">
        {found.map((command, i) => (
          <li key={command.id} id={`palette-${i}`} role="option" aria-selected={i === chosen} onPointerMove={() => setActive(i)} onClick={() => run(command)}>
            {['healthy', 'failing', 'degraded', 'denied', 'idle', 'unknown'].includes(command.icon) ? <HealthIcon health={command.icon as 'healthy'} size={16} /> : <Icon name={command.icon as IconName} />}
            <span className="palette-label">{command.label}</span>
            <span className="palette-hint">{command.hint}</span>
          </li>
        ))}
      </ul>
      {found.length === 0 && <p className="palette-none">Nothing is called “{text}”.</p>}
    </dialog>
  );
}

/** Every word has to occur; earlier and at a word's start ranks higher. */
function search(commands: Command[], text: string): Command[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return commands.slice(0, LIMIT);
  const ranked: [number, Command][] = [];
  for (const command of commands) {
    const name = command.label.toLowerCase();
    const all = `${name} ${command.hint.toLowerCase()}`;
    let score = 0;
    for (const word of words) {
      const at = all.indexOf(word);
      if (at < 0) {
        score = -1;
        break;
      }
      score += name.startsWith(word) ? 0 : /\W/.test(all.charAt(at - 1)) ? 1 : 2;
    }
    if (score >= 0) ranked.push([score + name.length / 1000, command]);
  }
  return ranked.sort((a, b) => a[0] - b[0]).slice(0, LIMIT).map(([, command]) => command);
}
