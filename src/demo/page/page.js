/* Second part: connections, columns, and the page around them. */

/* ---- connections -------------------------------------------------------------------------------- */

let reader = facts.readers[0];
const columns = [];
const totals = { events: new Meter(), bytes: new Meter(), arrival: new Samples(), screen: new Samples() };

const keyOf = (stream, argument) => (argument ? `${stream}\n${argument}` : stream);

/* One WebSocket for all columns that use it; opened with the first, closed with the last. */
const socket = {
  connection: null, retries: 0, timer: 0,
  wanted: () => columns.filter((column) => column.transport === "ws"),
  send(type, column) {
    if (this.connection?.readyState !== WebSocket.OPEN) return;
    const message = { type, stream: column.stream };
    if (column.stream.startsWith("hashtag")) message.tag = column.argument;
    if (column.stream === "list") message.list = column.argument;
    this.connection.send(JSON.stringify(message));
  },
  subscribe(column) {
    if (this.connection?.readyState === WebSocket.OPEN) {
      this.send("subscribe", column);
      column.state("open");
    } else {
      column.state("opening");
      this.open();
    }
  },
  unsubscribe(column) {
    const shared = this.wanted().some((other) => other !== column && other.key === column.key);
    if (!shared) this.send("unsubscribe", column);
    if (!this.wanted().some((other) => other !== column)) this.close();
  },
  open() {
    if (this.connection) return;
    clearTimeout(this.timer);
    const url = new URL("/api/v1/streaming", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("access_token", reader.token);
    const connection = this.connection = new WebSocket(url);
    connection.onopen = () => {
      this.retries = 0;
      for (const column of this.wanted()) this.subscribe(column);
    };
    connection.onmessage = ({ data }) => this.receive(data);
    connection.onclose = (event) => {
      if (this.connection !== connection) return;
      this.connection = null;
      const pause = Math.min(10000, 300 * 2 ** this.retries++) * (0.5 + Math.random());
      for (const column of this.wanted()) column.state("opening");
      say(`The WebSocket was closed (${event.code}); again in ${(pause / 1000).toFixed(1)} s.`);
      this.timer = setTimeout(() => this.wanted().length && this.open(), pause);
    };
  },
  receive(data) {
    const message = JSON.parse(data);
    if (message.error) return say(`The server says: ${message.error} (${message.status ?? "–"})`);
    const key = keyOf(message.stream[0], message.stream[1]);
    let fed = false;
    for (const column of this.wanted()) {
      if (column.key === key) { column.receive(message.event, message.payload, fed ? 0 : data.length); fed = true; }
    }
  },
  close() {
    clearTimeout(this.timer);
    const connection = this.connection;
    this.connection = null;
    connection?.close(1000);
  },
};

function eventSource(column) {
  const path = { "user:notification": "user/notification" }[column.stream]
    ?? column.stream.replace(":media", "").replaceAll(":", "/");
  const url = new URL(`/api/v1/streaming/${path}`, location.href);
  if (column.stream.endsWith(":media")) url.searchParams.set("only_media", "true");
  if (column.stream.startsWith("hashtag")) url.searchParams.set("tag", column.argument);
  if (column.stream === "list") url.searchParams.set("list", column.argument);
  url.searchParams.set("access_token", reader.token);
  const source = new EventSource(url);
  column.state("opening");
  source.onopen = () => column.state("open");
  source.onerror = () => {
    const gone = source.readyState === EventSource.CLOSED;
    column.state(gone ? "failed" : "opening");
    say(gone ? `${column.title}: the event stream was refused.` : `${column.title}: reconnecting.`);
  };
  for (const name of EVENTS) {
    source.addEventListener(name, ({ data }) => column.receive(name, data, data.length));
  }
  return source;
}

/* ---- columns ------------------------------------------------------------------------------------ */

class Column {
  constructor(stream, argument, transport) {
    Object.assign(this, { stream, argument, transport, key: keyOf(stream, argument), paused: false });
    const list = reader.lists.find((list) => list.id === argument);
    this.title = stream.startsWith("hashtag") ? `#${argument}${stream.endsWith("local") ? " (local)" : ""}`
      : stream === "list" ? `List: ${list?.title ?? argument}` : TITLES[stream] ?? stream;
    this.meter = new Meter();
    this.latency = new Samples();
    this.queue = [];
    this.build();
  }

  build() {
    const button = (text, label, action) => {
      const node = element("button", "", text);
      node.type = "button";
      node.title = label;
      node.setAttribute("aria-label", `${label}: ${this.title}`);
      node.onclick = action;
      return node;
    };
    const heading = element("h2", "", this.title);
    heading.id = `column-${Math.random().toString(36).slice(2)}`;
    this.dot = element("span", "dot");
    this.dot.setAttribute("role", "img");
    this.transportButton = button("", "Switch the transport", () => this.switchTransport());
    this.pauseButton = button("❚❚", "Pause", () => this.pause(!this.paused));
    const close = button("✕", "Close", () => this.close());
    this.rate = element("b", "", "0.0");
    this.median = element("b", "", "–");
    this.count = element("b", "", "0");
    this.spark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.spark.setAttribute("class", "spark");
    this.spark.setAttribute("viewBox", `0 0 ${SPARK_SECS * 4} 22`);
    this.spark.setAttribute("preserveAspectRatio", "none");
    this.spark.setAttribute("aria-hidden", "true");
    for (let second = 0; second < SPARK_SECS; second++) {
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      bar.setAttribute("x", second * 4);
      bar.setAttribute("width", 3);
      this.spark.append(bar);
    }
    const gauges = element("div", "gauges", element("span", "", this.rate, " /s"),
      element("span", "", this.median), element("span", "", this.count, " events"), this.spark);
    this.fresh = button("", "Back to the newest", () => { this.feed.scrollTop = 0; });
    this.fresh.className = "fresh";
    this.fresh.hidden = true;
    this.empty = element("p", "empty", "Nothing yet. It comes when it happens.");
    this.feed = element("div", "feed", this.empty);
    this.feed.setAttribute("role", "feed");
    this.feed.setAttribute("aria-labelledby", heading.id);
    this.feed.tabIndex = 0;
    this.unseen = 0;
    this.feed.onscroll = () => { if (this.feed.scrollTop < 40) this.see(0); };
    const title = element("div", "title", this.dot, heading, this.transportButton, this.pauseButton, close);
    this.node = element("section", "column", element("header", "", title, gauges), this.fresh, this.feed);
    this.node.setAttribute("aria-labelledby", heading.id);
    this.node.tabIndex = -1;
  }

  state(state) {
    this.dot.dataset.state = state;
    this.dot.setAttribute("aria-label", state);
    this.dot.title = state;
  }

  open() {
    this.transportButton.textContent = this.transport === "ws" ? "WS" : "SSE";
    if (this.transport === "ws") socket.subscribe(this);
    else this.source = eventSource(this);
  }

  disconnect() {
    if (this.transport === "ws") socket.unsubscribe(this);
    this.source?.close();
    this.source = null;
  }

  switchTransport() {
    this.disconnect();
    this.transport = this.transport === "ws" ? "sse" : "ws";
    this.open();
    remember();
  }

  pause(paused) {
    this.paused = paused;
    this.pauseButton.setAttribute("aria-pressed", String(paused));
    if (!paused) schedule();
  }

  close() {
    const index = columns.indexOf(this);
    this.disconnect();
    columns.splice(index, 1);
    this.node.remove();
    remember();
    (columns[Math.min(index, columns.length - 1)]?.node ?? $("opener-stream")).focus();
  }

  receive(event, payload, bytes) {
    if (typeof payload === "string" && /^[{[]/.test(payload)) {
      try { payload = JSON.parse(payload); } catch { /* shown as it is */ }
    }
    const time = typeof payload === "object" ? stamped(event, payload) : null;
    this.meter.add(1);
    totals.events.add(1);
    totals.bytes.add(bytes);
    if (time !== null) {
      this.latency.add(now() - time);
      totals.arrival.add(now() - time);
    }
    this.queue.push({ event, payload, time });
    if (this.queue.length > QUEUE_MAX) this.queue.shift();
    schedule();
  }

  /* Shows what has come; returns the times of what is shown for the first time. */
  show() {
    if (this.paused) return [];
    const times = [];
    for (const { event, payload, time } of this.queue.splice(0)) {
      if (time !== null) times.push(time);
      if (event === "delete") { this.remove(payload); continue; }
      if (event === "announcement.delete") continue;
      const node = card(event, payload, time);
      node.tabIndex = -1;
      const known = event === "status.update" && this.find(payload.id);
      if (known) {
        node.classList.add("edited");
        known.replaceWith(node);
      } else {
        this.empty.remove();
        node.classList.add("new");
        this.feed.prepend(node);
        if (this.feed.scrollTop >= 40) this.see(this.unseen + 1);
      }
    }
    const cards = this.feed.querySelectorAll(".card");
    for (let index = CARDS_MAX; index < cards.length; index++) cards[index].remove();
    return times;
  }

  find(id) { return this.feed.querySelector(`[data-status="${CSS.escape(String(id))}"]`); }

  remove(id) {
    const node = this.find(id);
    if (!node || node.classList.contains("deleted")) return;
    node.classList.add("deleted");
    node.querySelector(".when")?.append(" ", element("span", "chip gone", "deleted"));
    setTimeout(() => node.remove(), 5000);
  }

  see(unseen) {
    this.unseen = unseen;
    this.fresh.hidden = unseen === 0;
    this.fresh.textContent = `↑ ${unseen} new`;
  }

  tick() {
    const most = Math.max(4, ...this.meter.seconds);
    this.meter.seconds.forEach((count, second) => {
      const height = Math.max(1, 22 * count / most), bar = this.spark.children[second];
      bar.setAttribute("y", 22 - height);
      bar.setAttribute("height", height);
    });
    this.meter.tick();
    this.rate.textContent = this.meter.rate().toFixed(1);
    this.median.textContent = milliseconds(this.latency.at(0.5));
    this.count.textContent = String(this.meter.count);
  }
}

let scheduled = false;
function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    const times = columns.flatMap((column) => column.show());
    requestAnimationFrame(() => { for (const time of times) totals.screen.add(now() - time); });
  });
}

setInterval(() => {
  for (const column of columns) column.tick();
  totals.events.tick();
  totals.bytes.tick();
  $("total-rate").textContent = totals.events.rate().toFixed(1);
  $("total-bytes").textContent = (totals.bytes.rate() / 1000).toFixed(1);
  $("total-median").textContent = milliseconds(totals.arrival.at(0.5));
  $("total-tail").textContent = totals.arrival.values.length ? `p99 ${milliseconds(totals.arrival.at(0.99))}` : "";
  $("total-screen").textContent = milliseconds(totals.screen.at(0.5));
  const streams = columns.filter((column) => column.source?.readyState === EventSource.OPEN).length;
  const sockets = socket.connection?.readyState === WebSocket.OPEN ? 1 : 0;
  $("total-connections").textContent = `${sockets} WS + ${streams} SSE`;
}, 1000);

/* ---- the page around them ------------------------------------------------------------------------ */

function openColumn(stream, argument, transport) {
  const column = new Column(stream, argument, transport);
  columns.push(column);
  $("opener").before(column.node);
  column.open();
  if (columns.filter((other) => other.transport === "sse").length > 5) {
    say("Browsers allow six connections to one server: further event streams wait.");
  }
  return column;
}

/* The address tells reader and columns: #ada/user@ws/hashtag=caturday@sse */
function remember() {
  const parts = columns.map((column) =>
    `${column.stream}${column.argument ? `=${encodeURIComponent(column.argument)}` : ""}@${column.transport}`);
  history.replaceState(null, "", `#${[reader.username, ...parts].join("/")}`);
}

function remembered() {
  const [name, ...parts] = location.hash.slice(1).split("/");
  const found = facts.readers.find((other) => other.username === name);
  if (!found) return null;
  const wishes = parts.map((part) => /^([a-z:]+)(?:=([^@]+))?@(ws|sse)$/.exec(part)).filter(Boolean);
  return { reader: found, wishes: wishes.map(([, stream, argument, transport]) =>
    [stream, argument && decodeURIComponent(argument), transport]) };
}

function readAs(next, wishes) {
  for (const column of [...columns]) { column.disconnect(); column.node.remove(); }
  columns.length = 0;
  socket.close();
  reader = next;
  $(`reader-${reader.username}`).checked = true;
  $("about").replaceChildren(element("b", "", reader.name), ` ${reader.about}.`);
  $("opener-list").replaceChildren(...reader.lists.map((list) => new Option(list.title, list.id)));
  $("opener-stream").querySelector("[value=list]").disabled = !reader.lists.length;
  showCommands();
  for (const [stream, argument, transport] of wishes) {
    const list = reader.lists.some((list) => list.id === argument) ? argument : reader.lists[0]?.id;
    if (stream === "list" && !list) continue;
    openColumn(stream, stream === "list" ? list : argument, transport);
  }
  remember();
  say(`Reading as ${reader.name}.`);
}

const wishesNow = () => columns.map((column) => [column.stream, column.argument, column.transport]);

function showCommands() {
  const origin = location.origin, token = reader.token;
  const hello = JSON.stringify({ event: "update", payload: { id: "1", language: "en",
    created_at: new Date().toISOString(), content: "<p>Hello from redis-cli!</p>",
    account: { id: "1", username: "you", acct: "you", display_name: "You" } } });
  const index = facts.readers.indexOf(reader);
  $("commands").replaceChildren(...[
    `curl -N ${origin}/api/v1/streaming/public -H 'Authorization: Bearer ${token}'`,
    `websocat '${origin.replace("http", "ws")}/api/v1/streaming?stream=user&access_token=${token}'`,
    `redis-cli -p ${facts.broker_port} PUBLISH timeline:public '${hello}'`,
    `redis-cli -p ${facts.broker_port} PUBLISH timeline:access_token:${5000000 + index} '{"event":"kill"}'`,
  ].map((command) => element("pre", "", command)));
}

function setUpReaders() {
  for (const other of facts.readers) {
    const input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "reader", id: `reader-${other.username}` });
    input.onchange = () => readAs(other, wishesNow());
    const label = element("label", "", input, element("span", "", other.username));
    label.title = other.about;
    $("readers").append(label);
  }
}

function setUpOpener() {
  const choose = () => {
    const stream = $("opener-stream").value;
    $("opener-tag-label").hidden = !stream.startsWith("hashtag");
    $("opener-list-label").hidden = stream !== "list";
  };
  $("opener-stream").onchange = choose;
  choose();
  $("opener").onsubmit = (event) => {
    event.preventDefault();
    const stream = $("opener-stream").value;
    const tag = $("opener-tag").value.trim().replace(/^#/, "");
    if (stream.startsWith("hashtag") && !tag) return $("opener-tag").focus();
    const argument = stream.startsWith("hashtag") ? tag : stream === "list" ? $("opener-list").value : undefined;
    const transport = $("opener").elements.transport.value;
    openColumn(stream, argument, transport).node.scrollIntoView({ inline: "nearest", block: "nearest" });
    remember();
  };
}

function setUpTools() {
  $("theme").onclick = () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
      || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.dataset.theme = dark ? "light" : "dark";
  };
  $("pause-all").onclick = () => {
    const paused = $("pause-all").getAttribute("aria-pressed") !== "true";
    $("pause-all").setAttribute("aria-pressed", String(paused));
    for (const column of columns) column.pause(paused);
  };
  $("help-open").onclick = () => $("help").showModal();
}

function moveFocus(column, step) {
  const cards = [...column.feed.querySelectorAll(".card")];
  const index = cards.indexOf(document.activeElement.closest?.(".card"));
  cards[Math.max(0, Math.min(cards.length - 1, index + step))]?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (event.target.closest?.("input:not([type=radio]), select, textarea")) return;
  const column = columns.find((other) => other.node.contains(document.activeElement));
  const at = columns.indexOf(column);
  const actions = {
    "?": () => $("help").showModal(),
    n: () => { $("opener").scrollIntoView(); $("opener-stream").focus(); },
    r: () => readAs(facts.readers[(facts.readers.indexOf(reader) + 1) % facts.readers.length], wishesNow()),
    j: () => column && moveFocus(column, 1),
    k: () => column && moveFocus(column, -1),
    p: () => column && column.pause(!column.paused),
    t: () => column?.switchTransport(),
    x: () => column?.close(),
  };
  if (event.target.type !== "radio") {
    actions.ArrowLeft = () => (columns[at - 1] ?? columns[0])?.node.focus();
    actions.ArrowRight = () => (columns[at + 1] ?? columns.at(-1))?.node.focus();
  }
  const number = /^[1-9]$/.test(event.key) ? Number(event.key) : 0;
  const action = number ? () => columns[number - 1]?.node.focus() : actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

addEventListener("pagehide", () => { for (const column of columns) column.disconnect(); });

setUpReaders();
setUpOpener();
setUpTools();
const start = remembered() ?? { reader, wishes: [] };
readAs(start.reader, start.wishes.length ? start.wishes : [
  ["user", undefined, "ws"], ["public:local", undefined, "ws"], ["public:remote", undefined, "sse"],
  ["hashtag", "caturday", "ws"],
]);
