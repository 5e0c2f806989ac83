"use strict";
// Sections are replaced as they change; what the reader does in one (focus, scrolling, marking text) goes on.
const root = document.documentElement;
const aheadMs = 1000 * Number(root.dataset.now) - Date.now(); // the server's clock, against this one
const onDay = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium", hourCycle: "h23" });
const anyDay = new Intl.DateTimeFormat("en-GB", {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
});
const whole = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "long" });

function span(seconds) {
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= 2 * length) return `${Math.round(seconds / length)} ${unit}`;
  }
  return `${Math.round(seconds)} s`;
}

function said(moment, now, isRelative) {
  if (!isRelative) return (moment.toDateString() === now.toDateString() ? onDay : anyDay).format(moment);
  const seconds = (moment - now) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  return seconds > 0 ? `in ${span(seconds)}` : `${span(-seconds)} ago`;
}

function tellTimes(within) {
  const now = new Date(Date.now() + aheadMs);
  for (const time of within.querySelectorAll("time[data-local], time[data-relative]")) {
    const moment = new Date(time.dateTime);
    const text = said(moment, now, "relative" in time.dataset);
    if (time.textContent !== text) time.textContent = text;
    if (!time.title) time.title = whole.format(moment);
  }
}

function isMarkedIn(section) {
  const selection = getSelection();
  return !selection.isCollapsed && section.contains(selection.anchorNode);
}

const heldBack = new Map(); // by section: what came while text in it was marked

function replace(section, inner) {
  if (isMarkedIn(section)) return void heldBack.set(section, inner);
  heldBack.delete(section);
  const focused = section.contains(document.activeElement) ? document.activeElement.dataset.key : "";
  const scrolled = [...section.querySelectorAll(".scroll")].map((one) => [one.scrollTop, one.scrollLeft]);
  section.innerHTML = inner;
  section.querySelectorAll(".scroll").forEach((one, index) => {
    [one.scrollTop, one.scrollLeft] = scrolled[index] ?? [0, 0];
  });
  if (focused) section.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  tellTimes(section);
}

const link = document.getElementById("link");

function connect() {
  const source = new EventSource(root.dataset.events);
  source.onopen = () => { link.hidden = true; };
  source.onerror = () => {
    link.hidden = false;
    // A browser tries again by itself, unless it was answered and refused: too many pages were open.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
  };
  source.onmessage = ({ data }) => {
    for (const [name, inner] of Object.entries(JSON.parse(data))) {
      const section = document.getElementById(name);
      if (section) replace(section, inner);
    }
  };
}

document.addEventListener("selectionchange", () => {
  for (const [section, inner] of heldBack) if (!isMarkedIn(section)) replace(section, inner);
});
setInterval(() => tellTimes(document), 1000);
tellTimes(document);
connect();
