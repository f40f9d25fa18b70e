"use strict";
/* The page of the demonstration, first part: what an event looks like. page.js follows in the same script. */
const facts = JSON.parse(document.getElementById("facts").textContent);
const $ = (id) => document.getElementById(id);
const CARDS_MAX = 60, QUEUE_MAX = 300, SAMPLES_MAX = 500, SPARK_SECS = 30;
const TITLES = {
  "user": "Home", "user:notification": "Notifications", "direct": "Direct messages", "list": "List",
  "public": "Public", "public:local": "Public, local", "public:remote": "Public, remote",
  "public:media": "Public, with media", "public:local:media": "Public, local, with media",
  "public:remote:media": "Public, remote, with media", "hashtag": "Hashtag", "hashtag:local": "Hashtag, local",
};
const EVENTS = ["update", "status.update", "delete", "notification", "notifications_merged", "conversation",
  "announcement", "announcement.reaction", "announcement.delete"];

/* ---- small things ------------------------------------------------------------------------------ */

const now = () => performance.timeOrigin + performance.now();

function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function hue(text) {
  let hash = 7;
  for (const character of text) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  return hash % 360;
}

/* Keeps paragraphs, line breaks, links' texts: whatever is published, no script comes out of it. */
function safeContent(html) {
  const copy = (from, to) => {
    for (const node of from.childNodes) {
      if (node.nodeType === Node.TEXT_NODE) to.append(node.data);
      if (node.nodeType !== Node.ELEMENT_NODE) continue;
      const name = node.localName;
      if (name === "script" || name === "style") continue;
      const kept = ["p", "br", "em", "strong", "blockquote", "code"].includes(name)
        ? document.createElement(name) : document.createElement("span");
      if (name === "a") kept.style.color = "var(--accent)";
      to.append(kept);
      copy(node, kept);
    }
    return to;
  };
  return copy(new DOMParser().parseFromString(String(html ?? ""), "text/html").body, element("div", "content"));
}

class Samples {
  constructor() { this.values = []; this.next = 0; }
  add(value) { this.values[this.next] = value; this.next = (this.next + 1) % SAMPLES_MAX; }
  at(share) {
    if (!this.values.length) return null;
    const sorted = [...this.values].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  }
}

class Meter {
  constructor() { this.seconds = new Array(SPARK_SECS).fill(0); this.count = 0; }
  add(amount) { this.seconds[SPARK_SECS - 1] += amount; this.count += 1; }
  tick() { this.seconds.shift(); this.seconds.push(0); }
  rate() { return this.seconds.slice(-11, -1).reduce((a, b) => a + b, 0) / 10; }
}

function milliseconds(value) {
  if (value === null) return "–";
  return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

function say(text) { $("status").textContent = text; }

/* The time that an event carries: when it was published, to the millisecond. */
function stamped(event, payload) {
  const text = event === "status.update" ? payload.edited_at
    : event === "conversation" ? payload.last_status?.created_at
    : payload.created_at ?? payload.published_at;
  const time = Date.parse(text ?? "");
  const age = now() - time;
  return Number.isFinite(age) && age > -1000 && age < 60000 ? time : null;
}

/* ---- cards -------------------------------------------------------------------------------------- */

function head(account, right) {
  const acct = String(account?.acct ?? "?"), name = String(account?.display_name || acct);
  const avatar = element("span", "avatar", [...name][0] ?? "?");
  avatar.style.setProperty("--hue", hue(acct));
  avatar.setAttribute("aria-hidden", "true");
  const who = element("div", "who", element("b", "", name), element("span", "", `@${acct}`));
  return element("div", "head", avatar, who, right);
}

function statusParts(status) {
  const parts = [], body = element("div");
  const content = safeContent(status.content);
  if (status.language) content.lang = status.language;
  body.append(content);
  if (status.media_attachments?.length) {
    const media = element("div", "media");
    for (const item of status.media_attachments) {
      const picture = element("div", "", String(item.description ?? ""));
      picture.setAttribute("role", "img");
      picture.setAttribute("aria-label", String(item.description ?? "picture"));
      picture.style.setProperty("--hue", hue(String(item.id)));
      media.append(picture);
    }
    body.append(media);
  }
  if (status.poll) {
    const poll = element("div", "poll"), votes = Math.max(1, status.poll.votes_count);
    for (const option of status.poll.options ?? []) {
      const share = `${Math.round(100 * option.votes_count / votes)}%`;
      const row = element("div", "", element("span", "", String(option.title)), element("span", "", share));
      row.style.setProperty("--share", share);
      poll.append(row);
    }
    body.append(poll);
  }
  if (status.spoiler_text) {
    parts.push(element("details", "", element("summary", "", `CW: ${status.spoiler_text}`), body));
  } else {
    parts.push(body);
  }
  return parts;
}

function statusCard(status, time, why) {
  const shown = status.reblog ?? status;
  const when = element("div", "when", clock(time), element("br"));
  if (shown.language) when.append(element("span", "chip", String(shown.language)));
  if (shown.edited_at) when.append(" ", element("span", "chip loud", "edited"));
  const parts = [head(shown.account, when), ...statusParts(shown)];
  const filtered = (status.filtered ?? []).map((result) => result.filter);
  const card = element("article", "card");
  if (status.reblog) why = element("p", "why", element("b", "", "↻"), `${status.account?.display_name} boosted`);
  if (why) card.append(why);
  if (filtered.length) {
    const hidden = filtered.some((filter) => filter.filter_action === "hide");
    const titles = filtered.map((filter) => filter.title).join(", ");
    const summary = element("summary", "", hidden ? `Hidden by your filter “${titles}”` : `Filtered: “${titles}”`);
    card.append(element("details", "", summary, ...parts));
  } else {
    card.append(...parts);
  }
  card.dataset.status = status.id;
  return card;
}

function clock(time) {
  const date = new Date(time ?? Date.now());
  return date.toLocaleTimeString("en-GB") + (time ? "." + String(date.getMilliseconds()).padStart(3, "0") : "");
}

const DEEDS = { favourite: ["★", "favourited"], reblog: ["↻", "boosted"], follow: ["+", "followed you"],
  mention: ["@", "mentioned you"] };

function card(event, payload, time) {
  switch (event) {
    case "update": case "status.update": return statusCard(payload, time);
    case "notification": {
      const [sign, deed] = DEEDS[payload.type] ?? ["•", payload.type];
      const why = element("p", "why", element("b", "", sign),
        `${payload.account?.display_name} ${deed}${payload.status && payload.type !== "mention" ? " your post" : ""}`);
      if (payload.status) {
        const result = statusCard(payload.status, time, why);
        delete result.dataset.status;
        return result;
      }
      return element("article", "card", why, head(payload.account, element("div", "when", clock(time))));
    }
    case "conversation":
      return statusCard(payload.last_status ?? {}, time, element("p", "why", element("b", "", "✉"), "direct message"));
    case "announcement":
      return element("article", "card", element("p", "why", element("b", "", "!"), "Announcement", " ", clock(time)),
        safeContent(payload.content));
    case "announcement.reaction":
      return element("article", "card", element("p", "why", element("b", "", payload.name),
        `${payload.count} reactions to an announcement`));
    default:
      return element("article", "card", element("p", "why", element("b", "", event)),
        element("div", "raw", JSON.stringify(payload).slice(0, 400)));
  }
}
