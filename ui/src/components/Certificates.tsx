import type { Certificate } from '../api/types';
import { plural } from '../domain/format';
import { Time } from './Time';
import { TableHead } from './TableHead';

/** From here on an expiry is worth a look: ztunnels renew long before. */
const SOON_SECONDS = 2 * 3600;

/** Certificates that ztunnels hold, with how long they are good. */
export function Certificates({ list }: { list: Certificate[] }) {
  if (list.length === 0) return null;
  const nodes = new Set(list.map((certificate) => certificate.node)).size > 1;
  return (
    <section className="card" aria-label="Certificates">
      <div className="card-head">
        <h2>{plural(list.length, 'certificate')}</h2>
      </div>
      <div className="table-scroll">
        <table className="table compact">
          <TableHead columns={['Identity', nodes && 'Node', 'State', 'Issued', 'Expires', 'Root expires']} />
          <tbody>
            {list.map((certificate, i) => {
              const left = certificate.expires_in_seconds;
              return (
                <tr key={i}>
                  <td className="mono">{certificate.identity}</td>
                  {nodes && <td>{certificate.node}</td>}
                  <td className={certificate.state === 'Available' ? '' : 'text-failing'}>{certificate.state}</td>
                  <td>
                    <Time at={certificate.not_before} />
                  </td>
                  <td className={left !== undefined && left < 0 ? 'text-failing' : left !== undefined && left < SOON_SECONDS ? 'text-degraded' : ''}>
                    {left !== undefined && left < 0 && '✕ expired '}
                    <Time at={certificate.not_after} />
                  </td>
                  <td>
                    <Time at={certificate.root_not_after} />
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </section>
  );
}
