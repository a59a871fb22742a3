"use strict";

// What a bundle says is shown as text only: `textContent`, never markup.

const PAGE_ENTRIES = 200;
const FILE_DIGEST_BYTES_MAX = 2 ** 28;
const TRUST_BYTES_MAX = 2 ** 21;
const PAYLOAD_SHOWN_BYTES = 2 ** 16;
const at = id => document.getElementById(id);

/** An element with attributes and children; children that are strings become text. */
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
/** Characters that would hide or reorder what stands beside them are shown by their number. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;
const UNSEEN_BUT_LINES = new RegExp(`(?![\\n\\t])${UNSEEN.source}`, "gu");
const shown = (value, unseen = UNSEEN) => String(value).replace(unseen, char =>
  `⟨U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
const grouped = number => number.toLocaleString("en-US");
function sizeOf(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  const unit = bytes < 2 ** 20 ? ["KiB", 2 ** 10] : bytes < 2 ** 30 ? ["MiB", 2 ** 20] : ["GiB", 2 ** 30];
  return `${(bytes / unit[1]).toFixed(1)} ${unit[0]} (${grouped(bytes)} bytes)`;
}
/** Rows of a list of terms; values that are null are left out. */
const rows = pairs => pairs.filter(([, value]) => value !== null && value !== undefined).flatMap(([term, value, mono]) =>
  [el("dt", {}, term), el("dd", mono ? { class: "mono" } : {}, value instanceof Node ? value : shown(value))]);

// ─── What was chosen ────────────────────────────────────────────────────────────────────────────
const chosen = { file: null, trust: null, runs: 0 };

function isBundle(file, start) { return start[0] === 0x50 && start[1] === 0x4B || !/\.json$/i.test(file.name); }
/** Files dropped together: a bundle, keys, or both. */
async function takeFiles(files) {
  let bundle = null;
  if (files.length && chosen.file) supersede();
  for (const file of files) {
    const start = new Uint8Array(await file.slice(0, 2).arrayBuffer().catch(() => new ArrayBuffer(0)));
    if (isBundle(file, start)) bundle = file;
    else await takeTrust(file, file.name, false);
  }
  if (bundle) chosen.file = bundle;
  if (bundle || files.length) await check();
}
async function takeTrust(blob, name, again = true) {
  at("trust-fault").hidden = true;
  try {
    if (blob.size > TRUST_BYTES_MAX) throw new Fault("it is too large");
    chosen.trust = { ...await readTrust(new Uint8Array(await blob.arrayBuffer())), name };
  } catch (error) {
    chosen.trust = null;
    at("trust-fault").textContent = shown(`No keys could be read from ${name}: ${error.message}`);
    at("trust-fault").hidden = false;
  }
  showTrust();
  if (again) await check();
}
function showTrust() {
  const { trust } = chosen;
  at("trust-box").classList.toggle("set", trust !== null);
  at("trust-drop").hidden = trust === null;
  at("trust-said").classList.toggle("chosen", trust !== null);
  at("trust-said").textContent = trust === null
    ? "Optional: keys.json, obtained apart from the bundle, shows whose evidence it is."
    : shown(`${trust.pins.size} ${trust.pins.size === 1 ? "key" : "keys"} of ${trust.origin}, from ${trust.name}`);
}

// ─── A run ──────────────────────────────────────────────────────────────────────────────────────
/** From now on no answer of an earlier run is shown. Returns the number of the next run. */
function supersede() {
  at("main").dataset.outcome = "working";
  at("result").hidden = true;
  at("working").hidden = false;
  return ++chosen.runs;
}
async function check() {
  const { file, trust } = chosen;
  if (!file) return;
  const number = supersede();
  const run = { breathed: performance.now(), current: () => number === chosen.runs, progress: showProgress };
  at("working-said").textContent = shown(`Checking ${file.name}…`);
  at("bundle-box").classList.add("set");
  at("bundle-said").classList.add("chosen");
  at("bundle-said").textContent = shown(`${file.name}, ${sizeOf(file.size)}`);
  showProgress(0);
  try {
    const verdict = await verifyBundle(file, trust, run);
    const whole = file.size <= FILE_DIGEST_BYTES_MAX ? hex(await sha256(new Uint8Array(await file.arrayBuffer()))) : null;
    if (run.current()) await showVerdict(verdict, file, whole);
  } catch (error) {
    if (!run.current()) return;
    showFailure(error);
  }
}
let progressShown = 0;
function showProgress(share) {
  if (share && share - progressShown < 0.01) return;
  progressShown = share;
  at("progress").value = share;
}
/** Not a verdict: this page failed, and says so rather than nothing. */
function showFailure(error) {
  showHeadline("bad", "✕", "Not checked", "This page could not finish, so nothing can be said of the bundle. "
    + "Try another browser, or quire-verify.", [["", String(error)]]);
  for (const id of ["warnings", "facts"]) at(id).replaceChildren();
  at("checked").hidden = true;
  reveal("failed");
}

// ─── The verdict ────────────────────────────────────────────────────────────────────────────────
const TITLES = {
  hashes: "Files and entries are unaltered",
  links: "Neighbouring entries are linked",
  signatures: "The operator's own signatures",
  payloads: "Contents are those that were recorded",
  tree: "Entries stand in the signed trail",
  checkpoints: "The trail's state that was signed",
  anchors: "That state is anchored in the log of all trails",
  classical_signature: "The log's signatures (Ed25519)",
  pq_signature: "The log's post-quantum signatures (ML-DSA-44)",
  keys: "The keys are those of the log's owner",
  external_time: "Time vouched for by an outside authority",
  witnesses: "Independent witnesses",
};

/** What a check that failed means, in a few words. */
const FAILED = {
  hashes: "Something in the bundle was altered",
  links: "An entry does not follow the one before it",
  payloads: "A content is not the one that was recorded",
  tree: "An entry is not in the signed trail",
  checkpoints: "The signed state is not that of this trail",
  anchors: "The signed state is not anchored as the bundle says",
  classical_signature: "A signature is not the log's, or does not hold",
  pq_signature: "A post-quantum signature is not the log's, or does not hold",
  keys: "The keys are not those that you trust",
  witnesses: "The witnesses' cosignatures can't be read",
};

/** Tone, mark, headline, meaning, and causes as [what, why]. */
function headlineOf({ outcome, answers, reasons, unreadable }) {
  const why = check => reasons[check]?.[0].replace(HERE, "") ?? "";
  if (outcome === "unreadable") return ["bad", "✕", "Not readable",
    "This file is not an evidence bundle as one must be, or it was damaged on its way. Nothing in it was "
    + "verified, and nothing in it can be relied on.", [["", unreadable]]];
  if (outcome === "refuted") return ["bad", "✕", "Refuted",
    "This bundle is not what was signed, or not what it says it is. Do not rely on it.",
    CHECKS.filter(check => answers[check] === false).map(check => [FAILED[check], why(check)])];
  if (outcome === "incomplete") return ["part", "!", "Incomplete",
    "Nothing that was checked is false, but this was not checked:",
    ASKED.filter(check => answers[check] !== true).map(check => [TITLES[check], why(check)])];
  return ["good", "✓", "Verified",
    "Nothing was altered, every entry is in the signed trail, and the signatures are by the keys that you trust.", []];
}
function showHeadline(tone, mark, headline, meaning, causes) {
  at("verdict").dataset.tone = tone;
  at("mark").textContent = mark;
  at("headline").textContent = headline;
  at("meaning").textContent = meaning;
  at("causes").replaceChildren(...causes.map(([what, why]) =>
    el("li", {}, ...what ? [el("b", {}, what), el("br")] : [], shown(why))));
}
function reveal(outcome) {
  at("working").hidden = true;
  at("result").hidden = false;
  at("main").dataset.outcome = outcome;
  at("headline").focus({ preventScroll: true });
}
async function showVerdict(verdict, file, digest) {
  showHeadline(...headlineOf(verdict));
  at("warnings").replaceChildren(...verdict.warnings.map(({ text, mono }) =>
    el("div", { class: "warning" }, el("p", {}, text), ...mono ? [el("p", { class: "mono" }, mono)] : [])));
  showFacts(verdict.about, file, digest);
  at("checked").hidden = verdict.outcome === "unreadable";
  at("checks").replaceChildren(...CHECKS.map(check => checkRow(check, verdict)));
  list.verdict = verdict; list.file = file;
  await showEntries(0);
  reveal(verdict.outcome);
}
function showFacts(about, file, digest) {
  const range = about.first_seq === about.last_seq ? `number ${about.first_seq}`
    : `numbers ${about.first_seq} to ${about.last_seq}`;
  at("facts").replaceChildren(...rows([
    ["Trail", about.origin],
    ["Entries", about.entries && `${grouped(about.entries)}, ${range}`],
    ["Signed state", about.checkpoint && `when the trail had ${grouped(about.checkpoint)} entries`
      + (about.anchor ? `; anchor over ${grouped(about.anchor)} checkpoints` : "")],
    ["Keys", about.keys && (about.keys === "pinned" ? `the ones you trust (newest: ${about.key_id})` : `the bundle's own (newest: ${about.key_id})`)],
    ["File", `${file.name}, ${sizeOf(file.size)}`],
    ["SHA-256 of the file", digest, true],
    ["Checked", new Date().toISOString().replace(/\.\d+Z$/, "Z").replace("T", " ").replace("Z", " UTC") + ", by this computer's clock"],
  ]));
}
function checkRow(check, { answers, reasons }) {
  const answer = answers[check], why = reasons[check] ?? [];
  const here = why.some(reason => reason.startsWith(HERE));
  const said = answer === true ? "✓ true" : answer === false ? "✕ false" : here ? "– not checked here" : "– not checked";
  return el("tr", { "data-check": check, "data-answer": String(answer) },
    el("th", { scope: "row" }, TITLES[check], el("code", {}, check)),
    el("td", { class: "answer" }, said),
    el("td", { class: "why" }, ...why.map(reason => el("p", {}, shown(reason.replace(HERE, ""))))));
}

// ─── The entries ────────────────────────────────────────────────────────────────────────────────
const list = { verdict: null, file: null, start: 0 };
const bytesOf = async (start, end) => new Uint8Array(await list.file.slice(start, end).arrayBuffer());

/** A leaf as it was verified: the file is read again, and must not have changed. */
async function leafOf(entry) {
  const bytes = await bytesOf(entry.leafAt, entry.leafEnd);
  if (!same(await leafHash(bytes), entry.digest)) throw new Fault("the file changed since it was checked; choose it again");
  return bytes;
}
async function showEntries(start) {
  const { verdict } = list, end = Math.min(start + PAGE_ENTRIES, verdict.entries.length);
  list.start = start;
  at("entries").replaceChildren(...await Promise.all(verdict.entries.slice(start, end).map(entryRow)));
  at("pages-said").textContent = verdict.entries.length
    ? `${grouped(start + 1)} to ${grouped(end)} of ${grouped(verdict.entries.length)} entries in this bundle` : "";
  at("earlier").disabled = start === 0;
  at("later").disabled = end === verdict.entries.length;
  at("earlier").hidden = at("later").hidden = verdict.entries.length <= PAGE_ENTRIES;
}
const STATES = { plain: "in the clear", disclosed: "disclosed", sealed: "sealed", erased: "erased", withheld: "not included" };

async function entryRow(entry) {
  const faults = entry.seq === null ? ["not a well-formed entry"] : list.verdict.faults.get(entry.seq) ?? [];
  let leaf = null;
  try { leaf = readLeaf(await leafOf(entry)); } catch { /* shown by its bytes alone */ }
  const what = leaf ? [leaf.event_type, leaf.action, leaf.outcome].filter(value => value !== null).map(value => shown(value)).join(" · ") : "";
  const state = faults.length ? "✕ does not verify" : STATES[entry.state] ?? "";
  const row = el("details", { class: faults.length ? "entry faulty" : "entry", "data-seq": String(entry.seq) },
    el("summary", {},
      el("span", { class: "seq" }, entry.seq === null ? "?" : grouped(entry.seq)),
      el("span", { class: "time mono" }, leaf ? shown(leaf.anchored_at).replace("T", " ") : ""),
      el("span", { class: "what" }, what || "(no event type)"),
      el("span", { class: "state" }, state)));
  row.addEventListener("toggle", async () => {
    if (row.open && row.childElementCount === 1) row.append(await inside(entry, leaf, faults));
  });
  return row;
}
function named(ref) {
  const name = Object.hasOwn(list.verdict.names, ref ?? "") ? list.verdict.names[ref] : null;
  return name === null ? ref : `${ref} (the server states the name: ${name})`;
}
async function inside(entry, leaf, faults) {
  const made = el("div", { class: "inside" });
  try {
    const bytes = await leafOf(entry);
    if (leaf) made.append(el("dl", { class: "facts" }, ...rows([
      ["Wrong", faults.length ? faults.join("; ") : null],
      ["Recorded", leaf.anchored_at], ["Says it happened", leaf.timestamp],
      ["Event", leaf.event_type], ["Action", leaf.action], ["Outcome", leaf.outcome],
      ["Actor", named(leaf.actor)], ["Subject", named(leaf.subject)],
      ["Classification", leaf.data_classification], ["Legal basis", leaf.legal_basis],
      ["Entry hash", hex(entry.digest), true],
    ])));
    made.append(...await payloadOf(entry, leaf));
    made.append(el("h3", {}, "The entry itself, byte for byte"), el("pre", { tabindex: "0", "aria-label": "The entry" }, readable(bytes)));
  } catch (error) { made.append(el("p", { class: "said" }, shown(error.message))); }
  return made;
}
const WITHOUT = {
  sealed: "The content is sealed: it is in the bundle, encrypted, and no key for it was disclosed.",
  erased: "The content was erased: the server states that no key is left anywhere. The entry still proves its place.",
  withheld: "The content was not included in this bundle.",
};
async function payloadOf(entry, leaf) {
  const title = el("h3", {}, "What was recorded");
  if (!leaf || entry.payloadAt === null) return [];
  const line = readPayloadLine(await bytesOf(entry.payloadAt, entry.payloadEnd), "the payload");
  const plain = await checkPayload(leaf, line, list.verdict.about.org, { breathed: performance.now(), current: () => true });
  if (plain === null) return [title, el("p", {}, WITHOUT[line.state])];
  const more = plain.length > PAYLOAD_SHOWN_BYTES
    ? [el("p", {}, `The first ${sizeOf(PAYLOAD_SHOWN_BYTES)} of ${sizeOf(plain.length)}.`)] : [];
  return [title, el("pre", { tabindex: "0", class: "payload", "aria-label": "What was recorded" }, readable(plain.subarray(0, PAYLOAD_SHOWN_BYTES))), ...more];
}
/** Text where it is UTF-8 (also when its last character was cut), else a hex dump. */
function readable(bytes) {
  try { return shown(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes, { stream: true }), UNSEEN_BUT_LINES); }
  catch { return Array.from({ length: Math.ceil(bytes.length / 16) }, (_, line) =>
    `${line.toString(16).padStart(6, "0")}0  ${Array.from(bytes.subarray(16 * line, 16 * line + 16), byte => HEX[byte]).join(" ")}`).join("\n"); }
}

// ─── Listening ──────────────────────────────────────────────────────────────────────────────────
if (!globalThis.crypto?.subtle) {
  at("no-crypto").hidden = false;
  at("main").dataset.outcome = "no-crypto";
  for (const id of ["bundle-file", "trust-file", "trust-use"]) at(id).disabled = true;
} else {
  at("bundle-file").addEventListener("change", event => takeFiles([...event.target.files]).finally(() => event.target.value = ""));
  at("trust-file").addEventListener("change", async event => {
    const [file] = event.target.files;
    if (file) await takeTrust(file, file.name);
    event.target.value = "";
  });
  at("trust-use").addEventListener("click", () => takeTrust(new Blob([at("trust-text").value]), "what you pasted"));
  at("trust-drop").addEventListener("click", () => { chosen.trust = null; showTrust(); return check(); });
  addEventListener("drop", event => { event.preventDefault(); document.body.classList.remove("over"); return takeFiles([...event.dataTransfer.files]); });
  addEventListener("dragover", event => { event.preventDefault(); document.body.classList.add("over"); });
  addEventListener("dragleave", event => { if (!event.relatedTarget) document.body.classList.remove("over"); });
}
at("earlier").addEventListener("click", () => showEntries(list.start - PAGE_ENTRIES));
at("later").addEventListener("click", () => showEntries(list.start + PAGE_ENTRIES));
at("print").addEventListener("click", () => print());
