import { shownNow } from '../api/queries';
import { outageTone } from '../api/outages';
import type { Outage } from '../api/types';
import { pathOf } from '../app/router';
import { HealthIcon } from '../components/HealthMark';
import { Icon } from '../components/Icon';
import { Link } from '../components/Link';
import { Time, useSecond } from '../components/Time';
import { kindLabel } from '../domain/kinds';
import { durationSeconds, subjectName, summaryOf } from '../domain/outages';
import { humanDuration } from '../domain/time';

export function StateBadge({ outage }: { outage: Outage }) {
  const tone = outageTone(outage);
  return <span className={`badge ${tone === 'idle' ? '' : tone}`}>{outage.state === 'open' ? `Open, ${outage.severity}` : outage.state === 'stale' ? 'Stale' : 'Resolved'}</span>;
}

/** An outage in one look: what, where, since when. */
export function OutageCard({ outage, compact = false }: { outage: Outage; compact?: boolean }) {
  useSecond();
  const tone = outageTone(outage);
  const length = humanDuration(durationSeconds(outage, shownNow()));
  return (
    <Link to={pathOf('outages', outage.id)} className={`outage-card card ${tone} ${compact ? 'compact' : ''}`}>
      {outage.state === 'open' ? <HealthIcon health={tone} size={compact ? 18 : 26} /> : <Icon name="check" size={18} />}
      <span className="outage-main">
        <span className="outage-summary">{summaryOf(outage, shownNow())}</span>
        <span className="outage-facts">
          <span>{kindLabel(outage.kind)}</span>
          <span>
            root {outage.root.type.replace('_', ' ')} <b>{subjectName(outage.root)}</b>
          </span>
          {(outage.impact?.length ?? 0) > 0 && <span>{outage.impact!.length} affected</span>}
          <span>
            {outage.state === 'open' ? (
              `for ${length}`
            ) : (
              <>
                began <Time at={outage.started_at} />, lasted {length}
              </>
            )}
          </span>
        </span>
      </span>
      {compact ? <StateBadge outage={outage} /> : <Icon name="chevronRight" />}
    </Link>
  );
}
