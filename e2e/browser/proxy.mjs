// Stands between a browser and the binary, and breaks the event stream at will.
import { createServer, request } from 'node:http';

export async function startProxy(test, target) {
  const streams = new Set();
  /** What each event stream that was asked for said it had last. */
  const asked = [];
  let refusing = false;
  const server = createServer((incoming, response) => {
    const isStream = incoming.url.startsWith('/api/v1/events');
    if (isStream) asked.push(incoming.headers['last-event-id']);
    if (isStream && refusing) return response.socket.destroy();
    const onward = request(target + incoming.url, { method: incoming.method, headers: incoming.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      response.flushHeaders();
      answer.pipe(response);
      if (!isStream) return;
      streams.add(response);
      response.on('close', () => {
        streams.delete(response);
        onward.destroy();
      });
    });
    onward.on('error', () => response.destroy());
    incoming.pipe(onward);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  test.after(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    asked,
    /** Cuts the event streams, and refuses new ones until mend(). */
    cut() {
      refusing = true;
      for (const stream of streams) stream.socket.destroy();
    },
    mend() {
      refusing = false;
    },
  };
}
