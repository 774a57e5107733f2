// ratings, which keeps the stars of BookInfo's reviewers.
//
//   node ratings.js 9080 [0.0.0.0]
//
// Nothing but node:http, and nothing of a mesh.
'use strict';

const http = require('node:http');

const port = Number(process.argv[2] || 9080);
const name = `${process.env.HOSTNAME || 'ratings-v1'} (Node ${process.versions.node})`;
const largestBody = 64 << 10;
const mostPosted = 1000;

// Rules set a header by which ratings fails, for scenarios that need a service which does so by itself: "faulty" gets 503
// for the first of two questions, "slow" an answer after seven seconds.
const moodHeader = 'x-bookinfo-ratings';
const lateness = 7000;
let faults = 0;

const posted = new Map(); // by product: what replaced its ratings

function reply(res, status, value, headers = {}) {
  const body = JSON.stringify(value);
  res.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(body),
    'X-Served-By': name,
    ...headers,
  });
  res.end(body);
}

// starsOf gives the ratings in a text, or null: an object of whole numbers is asked for.
function starsOf(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return null;
  return Object.values(value).every(Number.isInteger) ? value : null;
}

async function bodyOf(req) {
  const pieces = [];
  let length = 0;
  for await (const piece of req) {
    length += piece.length;
    if (length > largestBody) return null;
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString();
}

// elapsed waits; false says that the client has gone before, which is logged as 499.
function elapsed(req, res) {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(true), lateness);
    res.once('close', () => {
      clearTimeout(timer);
      if (!res.headersSent) {
        res.statusCode = 499;
        log(req, res);
      }
      resolve(false);
    });
  });
}

async function handle(req, res) {
  const path = req.url.split('?')[0];
  if (path === '/health') {
    if (req.method !== 'GET' && req.method !== 'HEAD') return reply(res, 405, { error: 'method not allowed' }, { Allow: 'GET' });
    return reply(res, 200, { status: 'Ratings is healthy' });
  }
  const found = /^\/ratings\/([^/]+)$/.exec(path);
  if (!found) return reply(res, 404, { error: 'not found' });
  if (!['GET', 'HEAD', 'POST'].includes(req.method)) return reply(res, 405, { error: 'method not allowed' }, { Allow: 'GET, POST' });
  if (!/^[0-9]{1,9}$/.test(found[1])) return reply(res, 400, { error: 'please provide numeric product ID' });
  const id = Number(found[1]);
  if (req.method !== 'POST') {
    const mood = req.headers[moodHeader];
    if (mood === 'faulty' && faults++ % 2 === 0) return reply(res, 503, { error: 'faulty, as asked for' });
    if (mood === 'slow' && !(await elapsed(req, res))) return;
    return reply(res, 200, { id, ratings: posted.get(id) ?? { Reviewer1: 5, Reviewer2: 4 } });
  }
  const body = await bodyOf(req);
  const stars = body === null ? null : starsOf(body);
  if (stars === null) {
    return reply(res, 400, { error: 'please provide valid ratings JSON' }, body === null ? { Connection: 'close' } : {});
  }
  if (posted.has(id) || posted.size < mostPosted) posted.set(id, stars);
  reply(res, 200, { id, ratings: stars });
}

function log(req, res) {
  if (req.url === '/health') return;
  const { 'x-request-id': id = '', traceparent = '' } = req.headers;
  console.log(`${req.method} ${req.url} ${res.statusCode} x-request-id=${id} traceparent=${traceparent}`);
}

const server = http.createServer((req, res) => {
  res.on('finish', () => log(req, res));
  handle(req, res).catch(() => res.destroy()); // the client has gone
});

// Requests under way end, connections that only wait for a next one are closed.
function end() {
  server.close(() => process.exit(0));
  server.closeIdleConnections?.();
  setTimeout(() => process.exit(0), 5000).unref();
}
process.on('SIGTERM', end);
process.on('SIGINT', end);

server.on('error', (error) => {
  console.error(`ratings: ${error.message}`);
  process.exit(1);
});
server.listen(port, process.argv[3] || '127.0.0.1');
