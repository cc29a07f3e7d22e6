import { Link } from '../components/Link';

export default function Missing() {
  return (
    <div className="state">
      <h1>There is no such page</h1>
      <p>
        The address may be of another version. Start from the <Link to="/">overview</Link> or the <Link to="/graph">graph</Link>.
      </p>
    </div>
  );
}
