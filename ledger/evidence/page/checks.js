"use strict";

// ─── Bounds: everything that a file can ask for has one ─────────────────────────────────────────
const ENTRIES_MAX = 200_000;
const MEMBERS_MAX = 300_000;
const MEMBER_BYTES_MAX = 2 ** 26;
const MANIFEST_BYTES_MAX = 2 ** 27;
const BATCH_ENTRIES_MAX = 1_000;
const TOKENS_MAX = 16;
const NAME_BYTES_MAX = 64;
const LEAF_BYTES_MAX = 65_535;
const SEQ_MAX = 2 ** 40 - 1;
const NOTE_BYTES_MAX = 1_000_000;
const NOTE_SIGNATURES_MAX = 100;
const PROOF_BYTES_MAX = 2 ** 20;
const PROOF_HASHES_MAX = 64;
const EXTENSIONS_MAX = 64;
const KEYS_MAX = 100;
const HISTORY_BYTES_MAX = 2 ** 20;
const PINS_BYTES_MAX = 65_536;
const REASONS_MAX = 10;
const REASON_CHARS_MAX = 400;
const FAULTS_SHOWN_MAX = 1_000;
const WINDOW_BYTES = 2 ** 23;   // read from the file in one go
const BREATH_MS = 40;           // the longest that the page is kept from painting

/** The file is no evidence bundle, or was cut: nothing in it was checked. */
class Unreadable extends Error {}
/** One thing does not hold. */
class Fault extends Error {}
/** This browser lacks an algorithm: not checked here, and not held against the bundle. */
class NotHere extends Error {}
/** Another file was chosen meanwhile. */
class Superseded extends Error {}

// ─── Bytes ──────────────────────────────────────────────────────────────────────────────────────
const utf8 = text => new TextEncoder().encode(text);
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Text of UTF-8 bytes; throws what `Refusal` is for all that is not UTF-8. */
function textOf(bytes, what, Refusal = Fault) {
  try { return strictUtf8.decode(bytes); } catch { throw new Refusal(`${what} is not UTF-8`); }
}
function concat(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { whole.set(part, at); at += part.length; }
  return whole;
}
function same(one, other) {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
const hex = bytes => Array.from(bytes, byte => HEX[byte]).join("");
const unhex = text => Uint8Array.from(text.match(/../g) ?? [], pair => parseInt(pair, 16));

/** RFC 4648 section 4, padded, in its one canonical spelling. */
function base64(text, what, Refusal = Fault) {
  let binary;
  try { binary = atob(text); } catch { throw new Refusal(`${what} is not base64`); }
  if (btoa(binary) !== text) throw new Refusal(`${what} is not base64 in its one canonical spelling`);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = binary.charCodeAt(at);
  return bytes;
}
function uint64(number) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(number));
  return bytes;
}

/** Lets the page paint and react; `run.current()` ends a run that nobody waits for any more. */
async function breathe(run) {
  if (performance.now() - run.breathed < BREATH_MS) return;
  await new Promise(resolve => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { port1.close(); resolve(); };
    port2.postMessage(null);
  });
  if (!run.current()) throw new Superseded();
  run.breathed = performance.now();
}

// ─── Digests ────────────────────────────────────────────────────────────────────────────────────
async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", concat(parts)));
}

const CRC_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xEDB88320 : byte >>> 1;
  return byte;
});
function crc32(bytes) {
  let crc = -1;
  for (let at = 0; at < bytes.length; at++) crc = CRC_TABLE[(crc ^ bytes[at]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

// BLAKE3 (hash mode, 256 bits), from its specification, sections 2.1 to 2.6. No browser has it.
const BLAKE3_IV = Int32Array.of(
  0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19);
const BLAKE3_PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
const BLAKE3_ROUNDS = 7;
const CHUNK_BYTES = 1024, BLOCK_BYTES = 64;
const CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8;
/** Which message words each round mixes: the identity, then permuted once more each round. */
const BLAKE3_SCHEDULE = (() => {
  const rounds = [Array.from({ length: 16 }, (_, word) => word)];
  while (rounds.length < BLAKE3_ROUNDS) rounds.push(BLAKE3_PERMUTATION.map(word => rounds.at(-1)[word]));
  return Uint8Array.from(rounds.flat());
})();
/**
 * The compression function; `value` (8 words) is replaced by the first half of its output.
 * Written out, with the state in variables: three times as fast as with the state in an array.
 */
function blakeCompress(value, m, counter, length, flags) {
  const S = BLAKE3_SCHEDULE;
  let [s0, s1, s2, s3, s4, s5, s6, s7] = value, [s8, s9, s10, s11] = BLAKE3_IV;
  let s12 = counter, s13 = 0, s14 = length, s15 = flags;   // the counter stays below 2^32 chunks
  for (let at = 0; at < S.length; at += 16) {
    // Columns, then diagonals: the quarter round of section 2.2, eight times.
    s0 = s0 + s4 + m[S[at + 0]] | 0; s12 ^= s0; s12 = s12 >>> 16 | s12 << 16;
    s8 = s8 + s12 | 0; s4 ^= s8; s4 = s4 >>> 12 | s4 << 20;
    s0 = s0 + s4 + m[S[at + 1]] | 0; s12 ^= s0; s12 = s12 >>> 8 | s12 << 24;
    s8 = s8 + s12 | 0; s4 ^= s8; s4 = s4 >>> 7 | s4 << 25;
    s1 = s1 + s5 + m[S[at + 2]] | 0; s13 ^= s1; s13 = s13 >>> 16 | s13 << 16;
    s9 = s9 + s13 | 0; s5 ^= s9; s5 = s5 >>> 12 | s5 << 20;
    s1 = s1 + s5 + m[S[at + 3]] | 0; s13 ^= s1; s13 = s13 >>> 8 | s13 << 24;
    s9 = s9 + s13 | 0; s5 ^= s9; s5 = s5 >>> 7 | s5 << 25;
    s2 = s2 + s6 + m[S[at + 4]] | 0; s14 ^= s2; s14 = s14 >>> 16 | s14 << 16;
    s10 = s10 + s14 | 0; s6 ^= s10; s6 = s6 >>> 12 | s6 << 20;
    s2 = s2 + s6 + m[S[at + 5]] | 0; s14 ^= s2; s14 = s14 >>> 8 | s14 << 24;
    s10 = s10 + s14 | 0; s6 ^= s10; s6 = s6 >>> 7 | s6 << 25;
    s3 = s3 + s7 + m[S[at + 6]] | 0; s15 ^= s3; s15 = s15 >>> 16 | s15 << 16;
    s11 = s11 + s15 | 0; s7 ^= s11; s7 = s7 >>> 12 | s7 << 20;
    s3 = s3 + s7 + m[S[at + 7]] | 0; s15 ^= s3; s15 = s15 >>> 8 | s15 << 24;
    s11 = s11 + s15 | 0; s7 ^= s11; s7 = s7 >>> 7 | s7 << 25;
    s0 = s0 + s5 + m[S[at + 8]] | 0; s15 ^= s0; s15 = s15 >>> 16 | s15 << 16;
    s10 = s10 + s15 | 0; s5 ^= s10; s5 = s5 >>> 12 | s5 << 20;
    s0 = s0 + s5 + m[S[at + 9]] | 0; s15 ^= s0; s15 = s15 >>> 8 | s15 << 24;
    s10 = s10 + s15 | 0; s5 ^= s10; s5 = s5 >>> 7 | s5 << 25;
    s1 = s1 + s6 + m[S[at + 10]] | 0; s12 ^= s1; s12 = s12 >>> 16 | s12 << 16;
    s11 = s11 + s12 | 0; s6 ^= s11; s6 = s6 >>> 12 | s6 << 20;
    s1 = s1 + s6 + m[S[at + 11]] | 0; s12 ^= s1; s12 = s12 >>> 8 | s12 << 24;
    s11 = s11 + s12 | 0; s6 ^= s11; s6 = s6 >>> 7 | s6 << 25;
    s2 = s2 + s7 + m[S[at + 12]] | 0; s13 ^= s2; s13 = s13 >>> 16 | s13 << 16;
    s8 = s8 + s13 | 0; s7 ^= s8; s7 = s7 >>> 12 | s7 << 20;
    s2 = s2 + s7 + m[S[at + 13]] | 0; s13 ^= s2; s13 = s13 >>> 8 | s13 << 24;
    s8 = s8 + s13 | 0; s7 ^= s8; s7 = s7 >>> 7 | s7 << 25;
    s3 = s3 + s4 + m[S[at + 14]] | 0; s14 ^= s3; s14 = s14 >>> 16 | s14 << 16;
    s9 = s9 + s14 | 0; s4 ^= s9; s4 = s4 >>> 12 | s4 << 20;
    s3 = s3 + s4 + m[S[at + 15]] | 0; s14 ^= s3; s14 = s14 >>> 8 | s14 << 24;
    s9 = s9 + s14 | 0; s4 ^= s9; s4 = s4 >>> 7 | s4 << 25;
  }
  value[0] = s0 ^ s8; value[1] = s1 ^ s9; value[2] = s2 ^ s10; value[3] = s3 ^ s11;
  value[4] = s4 ^ s12; value[5] = s5 ^ s13; value[6] = s6 ^ s14; value[7] = s7 ^ s15;
  return value;
}
function blakeWords(bytes, start, length, words) {
  for (let word = 0, at = start; word < 16; word++, at += 4) {
    if (at + 4 <= start + length) {
      words[word] = bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16 | bytes[at + 3] << 24;
      continue;
    }
    words[word] = 0;
    for (let byte = at; byte < start + length; byte++) words[word] |= bytes[byte] << 8 * (byte - at);
  }
  return words;
}
/** A node of the tree, all but its last compression, which differs for the root. */
function blakeChunk(bytes, start, end, counter) {
  const value = BLAKE3_IV.slice(), words = new Int32Array(16);
  let flags = CHUNK_START;
  for (; end - start > BLOCK_BYTES; start += BLOCK_BYTES, flags = 0)
    blakeCompress(value, blakeWords(bytes, start, BLOCK_BYTES, words), counter, BLOCK_BYTES, flags);
  const length = end - start;
  return { value, words: blakeWords(bytes, start, length, words), counter, length, flags: flags | CHUNK_END };
}
const blakeValue = (node, more = 0) =>
  blakeCompress(node.value, node.words, node.counter, node.length, node.flags | more);
function blakeParent(left, right) {
  const words = new Int32Array(16);
  words.set(blakeValue(left)); words.set(blakeValue(right), 8);
  return { value: BLAKE3_IV.slice(), words, counter: 0, length: BLOCK_BYTES, flags: PARENT };
}
/** Where a subtree divides: the left one has the greatest power of two of chunks below the whole. */
const blakeSplit = length => CHUNK_BYTES * 2 ** Math.floor(Math.log2((length - 1) / CHUNK_BYTES));
function blakeTree(bytes, start, end) {
  if (end - start <= CHUNK_BYTES) return blakeChunk(bytes, start, end, start / CHUNK_BYTES);
  const middle = start + blakeSplit(end - start);
  return blakeParent(blakeTree(bytes, start, middle), blakeTree(bytes, middle, end));
}
const BLAKE3_AT_ONCE = 2 ** 20;
async function blakeLarge(bytes, start, end, run) {
  await breathe(run);
  if (end - start <= BLAKE3_AT_ONCE) return blakeTree(bytes, start, end);
  const middle = start + blakeSplit(end - start);
  const left = await blakeLarge(bytes, start, middle, run);
  return blakeParent(left, await blakeLarge(bytes, middle, end, run));
}
function blakeRoot(node) {
  const digest = new DataView(new ArrayBuffer(32));
  blakeValue(node, ROOT).forEach((word, at) => digest.setInt32(4 * at, word, true));
  return hex(new Uint8Array(digest.buffer));
}
/** BLAKE3-256 in hex; of large inputs without holding up the page. */
const blake3 = async (bytes, run) => blakeRoot(await blakeLarge(bytes, 0, bytes.length, run));

// ─── Findings: every check, each true, false or not checked, and why ────────────────────────────
const CHECKS = ["hashes", "links", "signatures", "payloads", "tree", "checkpoints", "anchors",
  "classical_signature", "pq_signature", "keys", "external_time", "witnesses"];
/** Without these a verdict is incomplete. */
const ASKED = ["hashes", "payloads", "tree", "checkpoints", "anchors", "classical_signature", "pq_signature", "keys"];
const NOT_CHECKED = "not_checked";
/** Begins the reason where it is the browser, not the bundle, that lacks something. */
const HERE = "Not checked here: ";

class Findings {
  answers = {};
  reasons = {};
  more = {};
  about = {};
  warnings = [];
  faults = new Map();   // what is wrong, by entry

  /** The check was made and holds, unless another part of it fails. */
  holds(check, reason) {
    this.answers[check] ??= true;
    if (this.answers[check] === true) this.say(check, reason);
  }
  /** The check was made and does not hold; whatever comes after, it has failed. */
  fails(check, reason, seq = null) {
    if (this.answers[check] !== false) { delete this.reasons[check]; this.answers[check] = false; }
    this.say(check, reason);
    if (seq === null || this.faults.size >= FAULTS_SHOWN_MAX) return;
    this.faults.set(seq, [...(this.faults.get(seq) ?? []), reason].slice(0, REASONS_MAX));
  }
  /** The check, or a part of it, was not made: it is not true, but may be false. */
  leavesOut(check, reason) {
    if (this.answers[check] === false) return;
    if (this.answers[check] === true) delete this.reasons[check];
    this.answers[check] = NOT_CHECKED;
    this.say(check, reason);
  }
  failed(check) { return this.answers[check] === false; }
  /** Runs one part of a check: a Fault is a failure, a missing algorithm leaves it out. */
  async judge(check, where, part) {
    try { return await part(); } catch (error) {
      if (error instanceof NotHere) this.leavesOut(check, HERE + error.message);
      else if (error instanceof Fault) this.fails(check, `${where}: ${error.message}`);
      else throw error;
      return null;
    }
  }
  say(check, reason) {
    const reasons = this.reasons[check] ??= [];
    if (reasons.length < REASONS_MAX) reasons.push(reason.slice(0, REASON_CHARS_MAX));
    else this.more[check] = (this.more[check] ?? 0) + 1;
  }
  verdict() {
    const answers = Object.fromEntries(CHECKS.map(check => [check, this.answers[check] ?? NOT_CHECKED]));
    for (const [check, count] of Object.entries(this.more)) this.reasons[check].push(`and ${count} more`);
    const all = Object.values(answers);
    const outcome = all.includes(false) ? "refuted"
      : ASKED.every(check => answers[check] === true) ? "verified" : "incomplete";
    return { outcome, answers, reasons: this.reasons, about: this.about, warnings: this.warnings,
      faults: this.faults, unreadable: null };
  }
}

// ─── JSON, only in its canonical form (RFC 8785) ────────────────────────────────────────────────
// A shape is a predicate over what JSON.parse made. Canonical bytes are those that JSON.stringify
// makes of it again, which also finds names given twice, second spellings and stray white space.
const text = max => value => typeof value === "string" && (value.length <= max || [...value].length <= max);
const anyText = value => typeof value === "string";
const integer = max => value => Number.isSafeInteger(value) && 0 <= value && value <= max;
const matching = pattern => value => typeof value === "string" && pattern.test(value);
const nullOr = shape => value => value === null || shape(value);
const only = (...values) => value => values.includes(value);
const arrayOf = (shape, max = Infinity) => value =>
  Array.isArray(value) && value.length <= max && value.every(shape);
const object = shapes => value =>
  value !== null && typeof value === "object" && !Array.isArray(value)
  && Object.keys(value).join() === Object.keys(shapes).join()
  && Object.entries(shapes).every(([name, shape]) => shape(value[name]));
/** The same with its members in any order, for what is not canonical JSON. */
const looseObject = shapes => value =>
  value !== null && typeof value === "object" && !Array.isArray(value)
  && Object.keys(value).length === Object.keys(shapes).length
  && Object.entries(shapes).every(([name, shape]) => Object.hasOwn(value, name) && shape(value[name]));
const digest = matching(/^[0-9a-f]{64}$/);
const count = integer(2 ** 53 - 1);
const seqNumber = integer(SEQ_MAX);
const HALF_PAIR = /(?:^|[^\\])(?:\\\\)*\\ud/;   // an escape that only half of a surrogate pair needs

function readJson(bytes, shape, what, Refusal) {
  const source = textOf(bytes, what, Refusal);
  let value;
  try { value = JSON.parse(source); } catch { throw new Refusal(`${what} is not JSON`); }
  if (!shape(value)) throw new Refusal(`${what} does not have the members and values it should`);
  return [value, source];
}
function readCanonical(bytes, shape, what, Refusal = Unreadable) {
  const [value, source] = readJson(bytes, shape, what, Refusal);
  if (JSON.stringify(value) !== source || HALF_PAIR.test(source))
    throw new Refusal(`${what} is not in canonical form (RFC 8785)`);
  return value;
}

const REQUEST = object({
  disclose: nullOr(object({
    fields: arrayOf(only("payload", "actor", "subject")),
    records: value => value === "all" || arrayOf(anyText)(value),
  })),
  filter: nullOr(object(Object.fromEntries(
    ["action", "actor", "event_type", "outcome", "since", "subject", "until"].map(name => [name, nullOr(anyText)])))),
  from_seq: nullOr(seqNumber),
  include_merkle_proofs: only(true, false),
  include_payloads: only(true, false),
  include_pq_attestation: only(true, false),
  record_ids: nullOr(arrayOf(anyText)),
  to_seq: nullOr(seqNumber),
});
const MANIFEST = object({
  anchor: nullOr(count),
  checkpoint: count,
  entries: object({
    count: value => integer(ENTRIES_MAX)(value) && value >= 1, first_seq: seqNumber, last_seq: seqNumber,
  }),
  format: only("quire-evidence-bundle"),
  members: arrayOf(
    object({ blake3: digest, name: text(NAME_BYTES_MAX), sha256: digest, size: integer(MEMBER_BYTES_MAX) }),
    MEMBERS_MAX),
  org: text(63),
  origin: text(255),
  request: REQUEST,
  version: only(1),
});
const ANCHOR_LEAF = object({ anchor_index: count, anchor_size: count, nonce: digest, size: count });
const PAYLOAD_LINE = object({
  key: nullOr(digest), payload: nullOr(anyText), seq: seqNumber,
  state: only("plain", "disclosed", "sealed", "erased", "withheld"),
});
const NAMES = value =>
  value !== null && typeof value === "object" && !Array.isArray(value)
  && Object.keys(value).join("\n") === Object.keys(value).sort().join("\n")
  && Object.entries(value).every(([ref, name]) => ref.startsWith("ref:") && anyText(name));
const maybeText = nullOr(anyText);
const LEAF = object({
  action: maybeText, actor: maybeText, anchored_at: anyText, data_classification: maybeText,
  event_type: maybeText, key: anyText, legal_basis: maybeText, org: anyText, outcome: maybeText,
  payload: object({ blake3: anyText, seal: maybeText, size: count }),
  previous_hash: maybeText, seq: seqNumber, subject: maybeText, timestamp: maybeText, v: only(1),
});
const CONTROL = /[\x00-\x1f\x7f-\x9f]/;

/** A leaf from its canonical bytes. Throws Fault for every other spelling. */
function readLeaf(bytes) {
  if (bytes.length > LEAF_BYTES_MAX) throw new Fault(`a leaf has at most ${LEAF_BYTES_MAX} bytes`);
  const leaf = readCanonical(bytes, LEAF, "the leaf", Fault);
  for (const value of [...Object.values(leaf), ...Object.values(leaf.payload)])
    if (typeof value === "string" && CONTROL.test(value)) throw new Fault("the leaf holds a control character");
  if ((leaf.previous_hash === null) !== (leaf.seq === 0))
    throw new Fault("previous_hash must be null in the first leaf of a trail, and only there");
  return leaf;
}

// ─── The zip: the one form that a bundle has, compared header by header ─────────────────────────
// PKWARE APPNOTE 6.3.9, sections 4.3 and 4.4. Members are stored, one behind the other from byte 0,
// so nothing can be hidden, overlap, be compressed, or be a link.
const LIMIT_16 = 0xFFFF, LIMIT_32 = 0xFFFFFFFF;
const LOCAL_BYTES = 30, CENTRAL_BYTES = 46, END_BYTES = 22, END64_BYTES = 76, EXTRA64_BYTES = 12;
const VERSION = 10, VERSION_ZIP64 = 45, MADE_BY = 3 << 8 | 45, DATE = 1 << 5 | 1, MODE = 0o100644 * 2 ** 16;
const MEMBER_NAME = /^[A-Za-z][A-Za-z-]*(?:\/[0-9]+)?(?:\.[0-9]+)?\.[a-z-]+$/;

/** Little-endian fields, each [bytes, value]. */
function packed(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [bytes]) => sum + bytes, 0)));
  let at = 0;
  for (const [bytes, value] of fields) {
    if (bytes === 2) view.setUint16(at, value, true);
    if (bytes === 4) view.setUint32(at, value, true);
    if (bytes === 8) view.setBigUint64(at, BigInt(value), true);
    at += bytes;
  }
  return new Uint8Array(view.buffer);
}
function localHeader(name, crc, size) {
  return concat([packed([4, 0x04034B50], [2, VERSION], [2, 0], [2, 0], [2, 0], [2, DATE], [4, crc],
    [4, size], [4, size], [2, name.length], [2, 0]), name]);
}
function centralHeader(name, crc, size, offset) {
  const large = offset >= LIMIT_32;
  const extra = large ? packed([2, 1], [2, 8], [8, offset]) : new Uint8Array(0);
  return concat([packed([4, 0x02014B50], [2, MADE_BY], [2, large ? VERSION_ZIP64 : VERSION], [2, 0], [2, 0],
    [2, 0], [2, DATE], [4, crc], [4, size], [4, size], [2, name.length], [2, extra.length], [2, 0], [2, 0],
    [2, 0], [4, MODE], [4, Math.min(offset, LIMIT_32)]), name, extra]);
}
const needs64 = ({ members, size, offset }) => members >= LIMIT_16 || Math.max(size, offset) >= LIMIT_32;
function endRecord(directory) {
  const { members, size, offset } = directory;
  const short = [Math.min(members, LIMIT_16), Math.min(size, LIMIT_32), Math.min(offset, LIMIT_32)];
  const end = packed([4, 0x06054B50], [2, 0], [2, 0], [2, short[0]], [2, short[0]], [4, short[1]],
    [4, short[2]], [2, 0]);
  if (!needs64(directory)) return end;
  return concat([
    packed([4, 0x06064B50], [8, 44], [2, MADE_BY], [2, VERSION_ZIP64], [4, 0], [4, 0], [8, members],
      [8, members], [8, size], [8, offset]),
    packed([4, 0x07064B50], [4, 0], [8, offset + size], [4, 1]),
    end]);
}
/** What the last bytes of a file say, where they are exactly the end record of it; else null. */
function parseEnd(tail) {
  const view = new DataView(tail.buffer, tail.byteOffset, tail.byteLength);
  const end = tail.length - END_BYTES;
  let directory = { members: view.getUint16(end + 8, true), size: view.getUint32(end + 12, true),
    offset: view.getUint32(end + 16, true) };
  if (directory.members === LIMIT_16 || directory.size === LIMIT_32 || directory.offset === LIMIT_32) {
    const at = end - END64_BYTES;
    if (at < 0) return null;
    const number = place => Number(view.getBigUint64(at + place, true));
    directory = { members: number(32), size: number(40), offset: number(48) };
    if (!Number.isSafeInteger(directory.offset + directory.size)) return null;
  }
  const expected = endRecord(directory);
  return expected.length <= tail.length && same(tail.subarray(tail.length - expected.length), expected)
    ? directory : null;
}

const END_MAGIC = Uint8Array.of(0x50, 0x4B, 5, 6);
const DIRECTORY_BYTES_MAX = 2 ** 26;
const OF_A_BUNDLE = ["manifest.json", "log-keys.json", "STATEMENT.txt"];
const ARCHIVES = { "1f8b": "a gzip file", "377abcaf271c": "a 7z archive", "52617221": "a RAR archive",
  "425a68": "a bzip2 file", "fd377a585a": "an xz file", "28b52ffd": "a zstd file" };
const PACKED_ANEW = "this is not the file that a server made: a bundle was unpacked and packed again (archive "
  + "programs and some mail gateways do that), or its file was changed. Ask whoever gave it to you for the original "
  + "file, by a way that does not open it";

/** The members of a bundle's file. Throws Unreadable where it is no such zip. */
class BundleFile {
  constructor(file, run) {
    this.file = file; this.run = run;
    this.window = new Uint8Array(0); this.windowAt = 0;
  }
  async read(offset, size) {
    if (offset + size > this.file.size) throw new Unreadable("the file ends too early: it was cut");
    const at = offset - this.windowAt;
    if (at < 0 || at + size > this.window.length) {
      const end = Math.min(this.file.size, offset + Math.max(size, WINDOW_BYTES));
      try { this.window = new Uint8Array(await this.file.slice(offset, end).arrayBuffer()); }
      catch { throw new Unreadable("the file can't be read; was it moved or changed? Choose it again"); }
      this.windowAt = offset;
      return this.window.subarray(0, size);
    }
    return this.window.subarray(at, at + size);
  }
  async members() {
    try { return await this.strictMembers(); } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      const explanation = await this.explanation();
      throw new Unreadable(explanation ? `${explanation} (${error.message})` : error.message);
    }
  }
  /** What became of a bundle that can't be read, and what to do; null where that is not known. */
  async explanation() {
    const head = hex(await this.read(0, Math.min(8, this.file.size)));
    const archive = Object.entries(ARCHIVES).find(([magic]) => head.startsWith(magic));
    if (archive) return `this is ${archive[1]}, not an evidence bundle: unpack it, and verify the .zip that is in it as it is`;
    const names = (await this.looseNames()).map(name => name.split("/").at(-1));
    if (OF_A_BUNDLE.every(name => names.includes(name))) return PACKED_ANEW;
    const inner = names.filter(name => /\.zip$/i.test(name)).sort();
    return inner.length ? `this zip is no evidence bundle, and ${inner[0]} is in it: unpack this file, and verify that one as it is` : null;
  }
  /** The names in a zip's directory, wherever that lies; as far as they can be told. */
  async looseNames() {
    const tailBytes = Math.min(this.file.size, END_BYTES + LIMIT_16);
    const tail = await this.read(this.file.size - tailBytes, tailBytes);
    let end = tail.length - END_BYTES;
    while (end >= 0 && !same(tail.subarray(end, end + 4), END_MAGIC)) end--;
    if (end < 0) return [];
    const size = new DataView(tail.buffer, tail.byteOffset + end).getUint32(12, true);
    const start = this.file.size - tailBytes + end - size;
    if (start < 0 || size > DIRECTORY_BYTES_MAX) return [];
    const data = await this.read(start, size);
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const names = [];
    for (let at = 0; at + CENTRAL_BYTES <= data.length && view.getUint32(at, true) === 0x02014B50;) {
      const nameEnd = at + CENTRAL_BYTES + view.getUint16(at + 28, true);
      names.push(String.fromCharCode(...data.subarray(at + CENTRAL_BYTES, Math.min(nameEnd, data.length)).slice(0, 1_000)));
      at = nameEnd + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    }
    return names;
  }
  async strictMembers() {
    const directory = await this.findDirectory();
    const data = await this.read(directory.offset, directory.size);
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const members = [], seen = new Set();
    let at = 0, offset = 0;
    for (let number = 0; number < directory.members; number++) {
      if (number % 2_000 === 0) await breathe(this.run);
      const nameBytes = at + CENTRAL_BYTES <= data.length ? view.getUint16(at + 28, true) : 0;
      if (at + CENTRAL_BYTES + nameBytes > data.length) throw new Unreadable("the zip's directory ends inside a header");
      const crc = view.getUint32(at + 16, true), size = view.getUint32(at + 24, true);
      const bytes = data.subarray(at + CENTRAL_BYTES, at + CENTRAL_BYTES + nameBytes);
      const name = String.fromCharCode(...bytes.subarray(0, NAME_BYTES_MAX));
      if (nameBytes > NAME_BYTES_MAX || !MEMBER_NAME.test(name))
        throw new Unreadable(`no member of a bundle is named “${name}”`);
      const header = centralHeader(bytes, crc, size, offset);
      if (!same(data.subarray(at, at + header.length), header))
        throw new Unreadable(`the zip's header of ${name} is not that of a stored, plain file in its place`);
      if (seen.has(name)) throw new Unreadable(`${name} stands in the zip twice`);
      seen.add(name);
      if (size > (name === "manifest.json" ? MANIFEST_BYTES_MAX : MEMBER_BYTES_MAX))
        throw new Unreadable(`${name} has ${size} bytes, more than are read`);
      members.push({ name, nameBytes: bytes.slice(), offset, size, crc });
      at += header.length;
      offset += LOCAL_BYTES + nameBytes + size;
    }
    if (at !== data.length || offset !== directory.offset)
      throw new Unreadable("the zip holds bytes that belong to no member");
    return members;
  }
  async findDirectory() {
    const size = this.file.size;
    if (size < END_BYTES) throw new Unreadable(`${size} bytes are no zip, and no evidence bundle`);
    const tailBytes = Math.min(size, END_BYTES + END64_BYTES);
    const directory = parseEnd(await this.read(size - tailBytes, tailBytes));
    if (directory === null) throw new Unreadable("the file does not end as an evidence bundle does: it was cut, "
      + "something follows it, or it is another kind of file");
    if (directory.offset + directory.size + endRecord(directory).length !== size)
      throw new Unreadable("the zip's directory does not lie where its end says");
    if (!(0 < directory.members && directory.members <= MEMBERS_MAX + 1))
      throw new Unreadable(`the zip says it has ${directory.members} members; a bundle has 1 to ${MEMBERS_MAX + 1}`);
    if (directory.size > directory.members * (CENTRAL_BYTES + NAME_BYTES_MAX + EXTRA64_BYTES))
      throw new Unreadable("the zip's directory is larger than its members' names can make it");
    return directory;
  }
  /** A member's bytes, once the header before them is the directory's. */
  async member({ name, nameBytes, offset, size, crc }) {
    const header = localHeader(nameBytes, crc, size);
    const data = await this.read(offset, header.length + size);
    if (!same(data.subarray(0, header.length), header))
      throw new Unreadable(`the header before ${name} is not what the zip's directory says`);
    return data.subarray(header.length);
  }
}

/** Members in the order of the format, each held against the manifest. */
class Contents {
  static async open(file, findings, run) {
    const contents = new Contents();
    Object.assign(contents, { file: new BundleFile(file, run), findings, run, next: 0, settling: [] });
    const members = await contents.file.members();
    const last = members.pop();
    if (last.name !== "manifest.json") throw new Unreadable(`the last member is ${last.name}, not manifest.json`);
    const data = await contents.file.member(last);
    if (crc32(data) !== last.crc) findings.fails("hashes", "manifest.json does not have the CRC-32 of the zip");
    contents.manifest = readCanonical(data, MANIFEST, "manifest.json");
    const listed = contents.manifest.members;
    if (listed.length !== members.length || listed.some(({ name }, at) => name !== members[at].name))
      throw new Unreadable("the zip does not have the members that its manifest lists");
    contents.stored = members;
    return contents;
  }
  /** The name of the next member, "" at the end. */
  peek() { return this.stored[this.next]?.name ?? ""; }
  async take(name) {
    if (this.peek() !== name)
      throw new Unreadable(`${name} should be the next member of the bundle, not ${this.peek() || "the manifest"}`);
    return this.takeNext();
  }
  /** The next member's bytes; `this.at` is where they begin in the file. */
  async takeNext() {
    const stored = this.stored[this.next], listed = this.manifest.members[this.next++];
    const data = await this.file.member(stored);
    this.at = stored.offset + LOCAL_BYTES + stored.name.length;
    this.run.progress((this.at + stored.size) / this.file.file.size);
    if (crc32(data) !== stored.crc)
      this.findings.fails("hashes", `${stored.name} does not have the CRC-32 of the zip`);
    const blake = await blake3(data, this.run);
    this.settling.push(sha256(data).then(sha => {
      if (data.length !== listed.size || blake !== listed.blake3 || hex(sha) !== listed.sha256)
        this.findings.fails("hashes", `${stored.name} is not what the manifest says`);
    }));
    return data;
  }
  /** Waits for the digests of all members taken so far. */
  async settle() { await Promise.all(this.settling.splice(0)); }
  finish() {
    if (this.peek()) throw new Unreadable(`${this.peek()} has no place in the bundle where it stands`);
  }
}

// ─── Signed notes and checkpoints (C2SP signed-note, tlog-checkpoint, tlog-cosignature) ─────────
const NOTE_CONTROL = /[\x00-\x09\x0b-\x1f]/;
const KEY_NAME = /^[^\p{White_Space}+\x00-\x1f]+$/u;
const TYPE_ED25519 = 1, TYPE_ML_DSA_44 = 6;
const ALGORITHMS = {
  "Ed25519": { format: "raw", keyBytes: 32, signatureBytes: 64 },
  "ML-DSA-44": { format: "raw-public", keyBytes: 1312, signatureBytes: 2420 },   // FIPS 204
};

function checkNoteCharacters(bytes) {
  if (bytes.length > NOTE_BYTES_MAX) throw new Fault(`a note has at most ${NOTE_BYTES_MAX} bytes`);
  const source = textOf(bytes, "a note");
  if (NOTE_CONTROL.test(source)) throw new Fault("a note holds no control character but the newline");
  return source;
}
/** Text and signatures of a note; nothing in it is verified yet. */
function parseNote(bytes) {
  const source = checkNoteCharacters(bytes);
  const end = source.lastIndexOf("\n\n");
  if (end < 0) throw new Fault("a note is text, a blank line, and signature lines");
  return { text: source.slice(0, end + 1), signatures: parseSignatures(source.slice(end + 2)) };
}
function parseSignatures(source) {
  const lines = source.split("\n");
  if (lines.pop() !== "") throw new Fault("the last signature line of a note must end in a newline");
  if (lines.length < 1 || lines.length > NOTE_SIGNATURES_MAX)
    throw new Fault(`a note has 1 to ${NOTE_SIGNATURES_MAX} signature lines`);
  return lines.map(line => {
    const [dash, name, encoded, ...rest] = line.split(" ");
    if (dash !== "—" || encoded === undefined || rest.length || !KEY_NAME.test(name))
      throw new Fault("a signature line is an em dash, a key name and base64, one space between");
    const blob = base64(encoded, `the signature of “${name}”`);
    if (blob.length <= 4) throw new Fault(`the signature of “${name}” ends before it begins`);
    return { name, keyId: hex(blob.subarray(0, 4)), blob: blob.subarray(4) };
  });
}
function parseCheckpoint(source) {
  const lines = source.split("\n");
  const [origin, size, root, ...extensions] = lines.slice(0, -1);
  if (lines.at(-1) !== "" || lines.length < 4 || extensions.length > EXTENSIONS_MAX)
    throw new Fault("a checkpoint is lines that each end in a newline: origin, size, root, few extensions");
  if (origin === "" || extensions.includes("")) throw new Fault("a line of the checkpoint is empty");
  if (!/^(0|[1-9][0-9]{0,18})$/.test(size) || BigInt(size) >= 2n ** 63n)
    throw new Fault("the second line of a checkpoint is its size, in decimal digits");
  const hash = base64(root, "the root hash");
  if (hash.length !== 32) throw new Fault(`a root hash has 32 bytes, not ${hash.length}`);
  return { origin, size: BigInt(size), root: hash, extensions };
}
async function keyId(name, type, publicKey) {
  return hex((await sha256(utf8(`${name}\n`), Uint8Array.of(type), publicKey)).subarray(0, 4));
}

/** Whether a signature verifies. Throws NotHere where this browser lacks the algorithm. */
async function verifies(algorithm, publicKey, signature, message) {
  const { format, keyBytes, signatureBytes } = ALGORITHMS[algorithm];
  if (publicKey.length !== keyBytes || signature.length !== signatureBytes) return false;
  try {
    const key = await crypto.subtle.importKey(format, publicKey, { name: algorithm }, false, ["verify"]);
    return await crypto.subtle.verify({ name: algorithm }, key, signature, message);
  } catch (error) {
    if (["NotSupportedError", "SyntaxError", "TypeError"].includes(error.name))
      throw new NotHere(`this browser has no ${algorithm}; quire-verify has`);
    return false;   // no point of the curve: no signature by it
  }
}

const ed25519Verifier = async (name, key) => ({
  name, key, keyId: await keyId(name, TYPE_ED25519, key.ed25519),
  verify: (source, blob) => verifies("Ed25519", key.ed25519, blob, utf8(source)),
});
const mlDsaVerifier = async (name, key) => ({
  name, key, keyId: await keyId(name, TYPE_ML_DSA_44, key.mlDsa44),
  verify: (source, blob) =>
    blob.length > 8 && blob[0] < 128
    && verifies("ML-DSA-44", key.mlDsa44, blob.subarray(8), cosignedMessage(name, blob.subarray(0, 8), source)),
});
/** The message of signature type 0x06 (C2SP tlog-cosignature); it covers no extension lines. */
function cosignedMessage(name, time, source) {
  const { origin, size, root, extensions } = parseCheckpoint(source);
  if (extensions.length) throw new Fault("an ML-DSA-44 signature does not cover extension lines");
  const short = value => {
    const bytes = utf8(value);
    if (bytes.length > 255) throw new Fault("an ML-DSA-44 signature can't name an origin that long");
    return [Uint8Array.of(bytes.length), bytes];
  };
  return concat([utf8("subtree/v1\n\0"), ...short(name), time, ...short(origin), uint64(0), uint64(size), root]);
}
/** The keys that signed a note. Every line of a known key must verify, and there must be one. */
async function openNote(bytes, verifiers) {
  const note = parseNote(bytes), signers = [];
  for (const { name, keyId: id, blob } of note.signatures) {
    const verifier = verifiers.find(known => known.name === name && known.keyId === id);
    if (!verifier) continue;   // of nobody we know: left aside
    if (!await verifier.verify(note.text, blob)) throw new Fault(`the signature by “${name}” (${id}) does not verify`);
    signers.push(verifier);
  }
  if (!signers.length) throw new Fault("no key of the log signed it");
  return signers;
}

// ─── The log's keys: a history in which each appoints the next ──────────────────────────────────
const STATEMENT_LABEL = utf8("quire/v1/log-key\0");
const BASE_ORIGIN = /^[a-z0-9][a-z0-9.-]*(:[0-9]+)?(\/[A-Za-z0-9._~-]+)*$/;
const SLUG = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;
const baseOrigin = value => anyText(value) && value.length <= 180 && BASE_ORIGIN.test(value);
const HISTORY = looseObject({
  origin: anyText,
  keys: arrayOf(looseObject({
    statement: looseObject({
      created_at: anyText, ed25519: anyText, id: anyText, ml_dsa_44: anyText, origin: baseOrigin,
      position: count, previous: maybeText, v: only(1),
    }),
    signatures: arrayOf(looseObject({ key: anyText, ed25519: anyText, ml_dsa_44: anyText }), 2),
  }), KEYS_MAX),
});
const PINS = looseObject({
  origin: baseOrigin,
  pins: arrayOf(looseObject({ position: integer(KEYS_MAX - 1), sha256: digest }), KEYS_MAX),
});

/** A history with its keys, oldest first. `unchecked` says which of its signatures were not checked here. */
async function openHistory(bytes) {
  if (bytes.length > HISTORY_BYTES_MAX) throw new Fault(`a key history has at most ${HISTORY_BYTES_MAX} bytes`);
  const [document] = readJson(bytes, HISTORY, "the key history", Fault);
  const keys = [], unchecked = new Map();
  for (const { statement, signatures } of document.keys) {
    const key = await readStatement(statement, keys.at(-1));
    await checkStatement(key, keys.at(-1), signatures, unchecked);
    keys.push(key);
  }
  if (!keys.length) throw new Fault("the key history holds no key");
  if (new Set(keys.map(key => key.id)).size !== keys.length)
    throw new Fault("a key stands twice in the history: a retired key never returns");
  if (keys[0].origin !== document.origin) throw new Fault("the history is of another log than its keys");
  return { origin: document.origin, keys, unchecked };
}
async function readStatement(statement, before) {
  const { created_at, id, origin, position, previous } = statement;
  const body = utf8(JSON.stringify(Object.fromEntries(Object.entries(statement).sort(([a], [b]) => a < b ? -1 : 1))));
  const ed25519 = base64(statement.ed25519, "an Ed25519 key"), mlDsa44 = base64(statement.ml_dsa_44, "an ML-DSA-44 key");
  const moment = Date.parse(created_at.slice(0, 23) + "Z");
  if (!TIME.test(created_at) || Number.isNaN(moment) || new Date(moment).toISOString().slice(0, 23) !== created_at.slice(0, 23))
    throw new Fault(`“${created_at}” is not the time of a key`);
  if (ed25519.length !== 32 || mlDsa44.length !== 1312) throw new Fault(`the keys of “${id}” have the wrong length`);
  if (id !== `lk-${hex(await sha256(ed25519, mlDsa44)).slice(0, 16)}`)
    throw new Fault(`the id “${id}” is not that of the keys beside it`);
  if (position !== (before ? before.position + 1 : 0) || previous !== (before ? before.digest : null))
    throw new Fault(`key “${id}” does not follow the one before it: one is missing or altered`);
  if (before && (origin !== before.origin || created_at < before.created_at))
    throw new Fault(`key “${id}” is of another log than the one before it, or older`);
  return { id, origin, position, created_at, body, ed25519, mlDsa44, digest: hex(await sha256(body)) };
}
async function checkStatement(key, before, signatures, unchecked) {
  const signers = before ? [before, key] : [key];
  if (signatures.map(({ key: id }) => id).join() !== signers.map(({ id }) => id).join())
    throw new Fault(`key “${key.id}” must be signed by ${signers.map(({ id }) => id).join(" and ")}, and by no other`);
  const message = concat([STATEMENT_LABEL, key.body]);
  for (const [at, signer] of signers.entries()) {
    const pairs = [["Ed25519", signer.ed25519, signatures[at].ed25519], ["ML-DSA-44", signer.mlDsa44, signatures[at].ml_dsa_44]];
    for (const [algorithm, publicKey, encoded] of pairs) {
      const signature = base64(encoded, "a signature in the key history");
      try {
        if (!await verifies(algorithm, publicKey, signature, message))
          throw new Fault(`statement of key “${key.id}”: the ${algorithm} signature by ${signer.id} does not verify`);
      } catch (error) {
        if (!(error instanceof NotHere)) throw error;
        unchecked.set(algorithm, error.message);
      }
    }
  }
}

/** What the auditor trusts: pins, or a whole history, which pins its keys. Throws Fault. */
async function readTrust(bytes) {
  try {
    if (bytes.length > PINS_BYTES_MAX) throw new Fault("pins are smaller");
    const [{ origin, pins }] = readJson(bytes, PINS, "keys.json", Fault);
    const byPosition = new Map(pins.map(pin => [pin.position, pin.sha256]));
    if (!pins.length || byPosition.size !== pins.length) throw new Fault("a position is pinned twice, or none is");
    return { origin, pins: byPosition };
  } catch (notPins) {
    if (!(notPins instanceof Fault)) throw notPins;
    try {
      const { origin, keys } = await openHistory(bytes);
      return { origin, pins: new Map(keys.map(key => [key.position, key.digest])) };
    } catch (notHistory) {
      if (!(notHistory instanceof Fault)) throw notHistory;
      throw new Fault(`neither pins (${notPins.message}) nor a key history (${notHistory.message})`);
    }
  }
}
/** Why the history is held against no pin, null where it is. Throws Fault where it is another. */
function checkPins(history, trust) {
  if (history.origin !== trust.origin)
    throw new Fault(`they are of log “${history.origin}”; the keys that you trust are of “${trust.origin}”`);
  const within = [...trust.pins].filter(([position]) => position < history.keys.length);
  if (!within.length) return `none of the ${history.keys.length} keys of ${history.origin} is among those that you trust: `
    + `get keys.json with key number ${Math.min(...trust.pins.keys())} or an earlier one`;
  for (const [position, sha] of within)
    if (history.keys[position].digest !== sha) throw new Fault(`key number ${position} is not the one that you trust`);
  return null;
}

const ownKeys = ({ origin, keys }) => "The keys are the bundle's own, which shows that one log made all of this, "
  + `not whose it is. Key number ${keys.at(-1).position} has the digest ${keys.at(-1).digest}: ask the operator of `
  + `${origin} for it, in another way than this bundle, as keys.json (quire keys log show --pins), and add that above`;

/** The verified history; null, and no signature holds, where it can't be trusted. */
async function openKeys(bytes, manifest, trust, findings) {
  try {
    const history = await openHistory(bytes);
    const whyNot = trust ? checkPins(history, trust) : ownKeys(history);
    if (!SLUG.test(manifest.org) || `${history.origin}/orgs/${manifest.org}` !== manifest.origin)
      throw new Fault(`they are of log “${history.origin}”, the bundle is of “${manifest.origin}”`);
    const newest = history.keys.at(-1);
    Object.assign(findings.about, { keys: whyNot ? "the bundle's own" : "pinned", key_id: newest.id, key_sha256: newest.digest });
    if (whyNot) findings.leavesOut("keys", whyNot);
    else findings.holds("keys", `The keys of ${history.origin} are those that you trust`);
    for (const [algorithm, check] of [["Ed25519", "classical_signature"], ["ML-DSA-44", "pq_signature"]])
      if (history.unchecked.has(algorithm)) findings.leavesOut(check, HERE + history.unchecked.get(algorithm));
    return history;
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    for (const check of ["classical_signature", "pq_signature", "keys"])
      findings.fails(check, `the log's keys can't be believed: ${error.message}`);
    return null;
  }
}

// ─── Trees (RFC 6962 section 2.1, RFC 9162 section 2.1.3.2) and proof files (C2SP tlog-proof) ───
const LEAF_PREFIX = Uint8Array.of(0), NODE_PREFIX = Uint8Array.of(1);
const leafHash = leaf => sha256(LEAF_PREFIX, leaf);

/** Inclusion proofs against one root; nodes that several proofs share are hashed once. */
class Tree {
  constructor(size, root) { this.size = size; this.root = root; this.known = new Map(); }
  parent(left, right) {
    const key = String.fromCharCode(...left, ...right);
    let hash = this.known.get(key);
    if (!hash) this.known.set(key, hash = sha256(NODE_PREFIX, left, right));
    return hash;
  }
  /** Throws Fault unless the proof leads from this leaf hash to the root. */
  async check(index, hash, proof) {
    if (index >= this.size) throw new Fault(`leaf ${index} is not in a tree of ${this.size}`);
    let node = index, last = this.size - 1;
    for (const sibling of proof) {
      if (last === 0) throw new Fault("the proof goes on beyond the root");
      if (node % 2 === 1 || node === last) {
        hash = await this.parent(sibling, hash);
        while (node % 2 === 0 && node !== 0) { node = Math.floor(node / 2); last = Math.floor(last / 2); }
      } else hash = await this.parent(hash, sibling);
      node = Math.floor(node / 2); last = Math.floor(last / 2);
    }
    if (last !== 0) throw new Fault("the proof ends before the root");
    if (!same(hash, this.root)) throw new Fault("the proof does not lead to the checkpoint's root");
  }
}
/** A proof file without extra data: index (as written), hashes, and the signed note as text. */
function parseProof(bytes) {
  if (bytes.length > PROOF_BYTES_MAX) throw new Fault(`a proof has at most ${PROOF_BYTES_MAX} bytes`);
  const source = textOf(bytes, "the proof");
  const end = source.indexOf("\n\n");
  const [header, index, ...hashes] = source.slice(0, Math.max(end, 0)).split("\n");
  if (end < 0 || header !== "c2sp.org/tlog-proof@v1") throw new Fault("it is no proof file of version 1");
  const number = /^index (0|[1-9][0-9]{0,19})$/.exec(index ?? "");
  if (!number) throw new Fault("it has no line with the index, or says more than it should");
  if (hashes.length > PROOF_HASHES_MAX) throw new Fault(`a proof has at most ${PROOF_HASHES_MAX} hashes`);
  const decoded = hashes.map((line, at) => base64(line, `hash ${at}`));
  if (decoded.some(hash => hash.length !== 32)) throw new Fault("a hash of the proof does not have 32 bytes");
  return { index: number[1], hashes: decoded, note: source.slice(end + 2) };
}

// ─── The checkpoint, and the anchor over it ─────────────────────────────────────────────────────
async function checkCheckpoint(contents, history, findings) {
  const { checkpoint: size, origin } = contents.manifest;
  const name = `checkpoints/${size}.note`, note = await contents.take(name);
  const checkpoint = await findings.judge("checkpoints", name, () => {
    const found = parseCheckpoint(parseNote(note).text);
    if (found.origin !== origin) throw new Fault(`it is of log “${found.origin}”, not of “${origin}”`);
    if (found.size !== BigInt(size)) throw new Fault(`it is of ${found.size} entries, not ${size}`);
    return found;
  });
  if (!checkpoint) {
    findings.leavesOut("classical_signature", `${name}: not looked at, it is another one`);
    return { note, text: null, tree: null };
  }
  findings.holds("checkpoints", `A checkpoint of ${origin} over ${size} entries`);
  if (history) await findings.judge("classical_signature", name, async () => {
    const verifiers = await Promise.all(history.keys.map(key => ed25519Verifier(origin, key)));
    const [signer] = await openNote(note, verifiers);
    findings.holds("classical_signature", `${name}: Ed25519, key ${signer.keyId}`);
  });
  return { note, text: textOf(note, name), tree: new Tree(size, checkpoint.root) };
}

async function checkAnchor(contents, history, head, findings) {
  const { anchor: size, request } = contents.manifest;
  if (size !== null && !request.include_pq_attestation)
    throw new Unreadable("the bundle has an anchor, and its request says it has none");
  if (size === null) {
    for (const check of ["anchors", "pq_signature", "external_time", "witnesses"])
      findings.leavesOut(check, "The bundle has no anchor");
    return;
  }
  const files = await takeAnchor(contents, size);
  const name = `anchors/${size}.note`;
  await findings.judge("anchors", name, async () => {
    await checkAnchored(contents, files, head.note, size, history);
    findings.holds("anchors", `The checkpoint is in the anchor over ${size} checkpoints`);
  });
  if (history) await checkAnchorSignatures(name, files.note, history, findings);
  findings.leavesOut("external_time", files.tokens
    ? `${HERE}the anchor has ${files.tokens} timestamp${files.tokens > 1 ? "s" : ""}; check with quire-verify --tsa-ca`
    : "The anchor has no timestamp");
  await findings.judge("witnesses", `anchors/${size}.cosignatures`, () => {
    const names = new Set(files.cosignatures.length
      ? parseSignatures(checkNoteCharacters(files.cosignatures)).map(line => line.name) : []);
    findings.leavesOut("witnesses", names.size
      ? `${HERE}it has cosignatures in the name of ${[...names].sort().join(", ")}; check with quire-verify --policy` : "No witness cosigned it");
  });
}
async function takeAnchor(contents, size) {
  const checkpoint = contents.manifest.checkpoint;
  const leaf = await contents.take(`checkpoints/${checkpoint}.json`);
  const proof = await contents.take(`checkpoints/${checkpoint}.tlog-proof`);
  const note = await contents.take(`anchors/${size}.note`);
  const cosigned = contents.peek() === `anchors/${size}.cosignatures`;
  const cosignatures = cosigned ? await contents.takeNext() : new Uint8Array(0);
  let tokens = 0;
  while (tokens < TOKENS_MAX && contents.peek() === `anchors/${size}.${tokens}.tst`) {
    await contents.takeNext();
    tokens++;
  }
  return { leaf, proof, note, cosignatures, tokens };
}
/** The blinded leaf, SHA-256(label ‖ nonce ‖ note), is in the anchor log where the bundle says. */
async function checkAnchored(contents, files, note, size, history) {
  const { checkpoint } = contents.manifest;
  const leaf = readCanonical(files.leaf, ANCHOR_LEAF, `checkpoints/${checkpoint}.json`, Fault);
  if (leaf.size !== checkpoint || leaf.anchor_size !== size)
    throw new Fault("the nonce is that of another checkpoint or anchor");
  const proof = parseProof(files.proof);
  if (proof.index !== String(leaf.anchor_index)) throw new Fault("the proof is of another leaf of the anchor log");
  if (!same(utf8(proof.note), concat([files.note, files.cosignatures])))
    throw new Fault("the proof ends in another note than the anchor's");
  const found = parseCheckpoint(parseNote(files.note).text);
  if (found.size !== BigInt(size)) throw new Fault(`it is of ${found.size} checkpoints, not ${size}`);
  const blinded = await sha256(utf8("quire anchor leaf v1\n"), unhex(leaf.nonce), note);
  await new Tree(size, found.root).check(leaf.anchor_index, await leafHash(blinded), proof.hashes);
  if (history && found.origin !== `${history.origin}/anchors`)
    throw new Fault(`it is of log “${found.origin}”, not “${history.origin}/anchors”`);
}
/** Each algorithm by itself, then that one key made both signatures. */
async function checkAnchorSignatures(name, note, history, findings) {
  const origin = `${history.origin}/anchors`;
  const open = async (check, algorithm, verifier) => findings.judge(check, name, async () => {
    const signers = await openNote(note, await Promise.all(history.keys.map(key => verifier(origin, key))));
    findings.holds(check, `${name}: ${algorithm}, key ${signers[0].keyId}`);
    return signers.map(signer => signer.key);
  });
  const classical = await open("classical_signature", "Ed25519", ed25519Verifier);
  const postQuantum = await open("pq_signature", "ML-DSA-44", mlDsaVerifier);
  if (!classical || !postQuantum || findings.failed("classical_signature")) return;
  await findings.judge("pq_signature", name, () => {
    const checkpoint = parseCheckpoint(parseNote(note).text);
    if (checkpoint.origin !== origin) throw new Fault(`it is of log “${checkpoint.origin}”, not “${origin}”`);
    if (!classical.some(key => postQuantum.includes(key)))
      throw new Fault("no one key made both its signatures");
  });
}

// ─── Payloads: what leaves commit to, and the disclosed ones opened ─────────────────────────────
const SEAL_VERSION = 1, SALT_BYTES = 32, SEAL_HEADER_BYTES = 65, SEALED_BYTES_MIN = 81;
const COMMITMENT_LABEL = utf8("quire/v1/payload-key-commitment\0");

/** The plaintext of a sealed payload under its own key. The commitment is compared first. */
async function openPayload(sealed, key, org, seal) {
  if (sealed.length < SEALED_BYTES_MIN || sealed[0] !== SEAL_VERSION) throw new Fault("it is no sealed payload of version 1");
  const commitment = sealed.subarray(1 + SALT_BYTES, SEAL_HEADER_BYTES);
  if (!same(await sha256(COMMITMENT_LABEL, key), commitment)) throw new Fault("the payload is committed to another key");
  const algorithm = { name: "AES-GCM", iv: new Uint8Array(12), tagLength: 128,
    additionalData: utf8(`quire/v1/payload\0${org}\0${seal}`) };
  try {
    const imported = await crypto.subtle.importKey("raw", key, "AES-GCM", false, ["decrypt"]);
    return new Uint8Array(await crypto.subtle.decrypt(algorithm, imported, sealed.subarray(SEAL_HEADER_BYTES)));
  } catch { throw new Fault("the payload does not open: it was altered or moved"); }
}
const readPayloadLine = (bytes, what) => {
  const line = readCanonical(bytes, PAYLOAD_LINE, what);
  return { ...line, payload: line.payload === null ? null : base64(line.payload, what, Unreadable) };
};
/** Throws Fault for what is wrong with one payload; returns its plaintext, null where there is none. */
async function checkPayload(leaf, line, org, run) {
  const { seal, size } = leaf.payload, { state } = line;
  if (line.seq !== leaf.seq) throw new Fault(`the payload in its place is that of entry ${line.seq}`);
  if ((line.key !== null) !== (state === "disclosed"))
    throw new Fault(`a payload that is ${state} has a key, or one that is disclosed has none`);
  if ((line.payload === null) !== (state === "withheld")) throw new Fault(`a payload that is ${state} has bytes, or has none`);
  if (state !== "withheld" && (seal === null) !== (state === "plain"))
    throw new Fault(`a payload with seal “${seal}” can't be ${state}`);
  if (line.payload === null) return null;
  if (line.payload.length !== size) throw new Fault(`the payload has ${line.payload.length} bytes, the leaf says ${size}`);
  if (await blake3(line.payload, run) !== leaf.payload.blake3)
    throw new Fault("the payload does not have the digest that the leaf gives");
  if (seal === null) return line.payload;
  if (line.key === null) return null;
  try { return await openPayload(line.payload, unhex(line.key), org, seal); } catch (error) {
    if (error instanceof Fault) throw new Fault(`the disclosed key does not open it: ${error.message}`);
    throw error;
  }
}

// ─── Entries, batch by batch ────────────────────────────────────────────────────────────────────
const padded = (number, digits) => String(number).padStart(digits, "0");

/** Where the lines of an NDJSON member begin and end, each without its newline. */
function splitLines(name, bytes) {
  const lines = [];
  let start = 0;
  for (let end = bytes.indexOf(10); end >= 0 && lines.length <= BATCH_ENTRIES_MAX; end = bytes.indexOf(10, start)) {
    lines.push([start, end]);
    start = end + 1;
  }
  if (start !== bytes.length || !lines.length || lines.length > BATCH_ENTRIES_MAX)
    throw new Unreadable(`${name} must be 1 to ${BATCH_ENTRIES_MAX} lines, each ended by a newline`);
  return lines;
}

class Entries {
  /** Of each entry: seq (null where its leaf is malformed), digest, and where its lines stand in the file. */
  list = [];
  constructor(contents, head, findings, run) {
    Object.assign(this, { contents, head, findings, run, manifest: contents.manifest });
    this.proofs = 0; this.links = 0; this.unreadable = 0; this.states = new Map();
    this.firstSeq = null; this.seq = -1; this.hash = "";
  }
  async check() {
    for (let batch = 0; this.contents.peek() === `leaves/${padded(batch, 6)}.ndjson`; batch++)
      await this.checkBatch(padded(batch, 6));
    this.finish();
  }
  async checkBatch(batch) {
    const { include_payloads, include_merkle_proofs } = this.manifest.request;
    const name = `leaves/${batch}.ndjson`, bytes = await this.contents.take(name), at = this.contents.at;
    const lines = splitLines(name, bytes);
    if (this.list.length + lines.length > ENTRIES_MAX) throw new Unreadable(`the bundle has more than ${ENTRIES_MAX} entries`);
    const raw = lines.map(([start, end]) => bytes.subarray(start, end));
    const digests = await Promise.all(raw.map(leafHash));
    const leaves = raw.map((line, number) => this.readLeaf(line, `${name} line ${number + 1}`));
    const entries = leaves.map((leaf, number) => ({ seq: leaf?.seq ?? null, digest: digests[number],
      leafAt: at + lines[number][0], leafEnd: at + lines[number][1], payloadAt: null, payloadEnd: null }));
    leaves.forEach((leaf, number) => this.checkLink(leaf, digests[number]));
    if (include_payloads) await this.checkPayloads(leaves, entries, `payloads/${batch}.ndjson`);
    if (include_merkle_proofs) await this.checkProofs(leaves, digests);
    await this.contents.settle();
    this.list.push(...entries);
  }
  readLeaf(line, where) {
    try {
      const leaf = readLeaf(line);
      if (leaf.org !== this.manifest.org) this.findings.fails("hashes", `${where}: the leaf is of org “${leaf.org}”`, leaf.seq);
      return leaf;
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.findings.fails("hashes", `${where}: ${error.message}`);
      this.unreadable++;
      return null;
    }
  }
  checkLink(leaf, digest) {
    if (leaf === null) { this.seq++; this.hash = ""; return; }
    if (this.firstSeq === null) this.firstSeq = leaf.seq;
    else if (leaf.seq <= this.seq) this.findings.fails("hashes", `entry ${leaf.seq} stands behind ${this.seq}`, leaf.seq);
    else if (leaf.seq === this.seq + 1 && this.hash) {
      this.links++;
      if (leaf.previous_hash !== this.hash)
        this.findings.fails("links", `entry ${leaf.seq} does not name the hash of the entry before it`, leaf.seq);
    }
    this.seq = leaf.seq; this.hash = hex(digest);
  }
  async checkPayloads(leaves, entries, name) {
    const bytes = await this.contents.take(name), at = this.contents.at, lines = splitLines(name, bytes);
    if (lines.length !== leaves.length) throw new Unreadable(`${name} has ${lines.length} lines for ${leaves.length} leaves`);
    const opened = [];
    for (const [number, [start, end]] of lines.entries()) {
      const line = readPayloadLine(bytes.subarray(start, end), `${name} line ${number + 1}`);
      this.states.set(line.state, (this.states.get(line.state) ?? 0) + 1);
      Object.assign(entries[number], { state: line.state, payloadAt: at + start, payloadEnd: at + end });
      const leaf = leaves[number];
      if (leaf) opened.push(this.judge("payloads", leaf.seq, `entry ${leaf.seq}`, checkPayload(leaf, line, this.manifest.org, this.run)));
      await breathe(this.run);
    }
    await Promise.all(opened);
  }
  async checkProofs(leaves, digests) {
    const { tree, text: note } = this.head, proved = [];
    if (tree) tree.known.clear();
    for (const [number, leaf] of leaves.entries()) {
      const name = this.contents.peek();
      if (!name.startsWith("proofs/")) throw new Unreadable(`a proof should be the next member of the bundle, not ${name || "the manifest"}`);
      const data = await this.contents.takeNext();
      if (leaf && tree) proved.push(this.judge("tree", leaf.seq, name, this.checkProof(leaf, digests[number], name, data, note)));
    }
    this.proofs += (await Promise.all(proved)).filter(Boolean).length;
  }
  async checkProof(leaf, digest, name, data, note) {
    if (name !== `proofs/${padded(leaf.seq, 12)}.tlog-proof`) throw new Fault(`it stands where the proof of entry ${leaf.seq} should`);
    const proof = parseProof(data);
    if (proof.note !== note) throw new Fault("it ends in another checkpoint than the bundle's");
    if (proof.index !== String(leaf.seq)) throw new Fault(`it is of entry ${proof.index}`);
    await this.head.tree.check(leaf.seq, digest, proof.hashes);
  }
  /** Whether a part of a check that was begun holds. */
  async judge(check, seq, where, part) {
    try { await part; return true; } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.findings.fails(check, `${where}: ${error.message}`, seq);
      return false;
    }
  }
  finish() {
    const { findings, manifest: { entries, request } } = this, total = this.list.length;
    if (total !== entries.count || this.firstSeq !== entries.first_seq || this.seq !== entries.last_seq)
      findings.fails("hashes", "the entries are not those that the manifest counts");
    findings.holds("hashes", `${total} entries and all files are as the manifest lists them`);
    if (this.links) findings.holds("links", `${this.links} entries name the hash of the one before them`);
    else findings.leavesOut("links", "No two entries of the bundle follow one another");
    this.finishPayloads(request);
    if (!request.include_merkle_proofs)
      findings.leavesOut("tree", "The bundle was made without proofs: nothing signed covers its entries");
    else if (!this.head.tree) findings.leavesOut("tree", "The proofs end in a checkpoint that is not the right one");
    else findings.holds("tree", `${this.proofs} proofs lead to the checkpoint's root`);
    // What an entry that can't be read leaves unchecked is never true.
    if (this.unreadable) for (const check of ["links", "payloads", "tree"])
      findings.leavesOut(check, `${this.unreadable} entries can't be read, so it was not checked of them`);
  }
  finishPayloads(request) {
    const said = [...this.states].sort().map(([state, number]) => `${number} ${state}`).join(", ");
    const withheld = this.states.get("withheld");
    if (!request.include_payloads) this.findings.leavesOut("payloads", "The bundle was made without payloads");
    else if (withheld) this.findings.leavesOut("payloads", `${withheld} are not in the bundle (${said})`);
    else this.findings.holds("payloads", `All are as their entries say: ${said}`);
  }
}

// ─── The whole ──────────────────────────────────────────────────────────────────────────────────
/**
 * The verdict on a bundle: `outcome` (verified, refuted, incomplete, unreadable), `answers`
 * (true, false or "not_checked" by check), `reasons`, `about`, `warnings`, `faults` by entry,
 * `entries`, `names`. `run` has current(), progress(share) and breathed.
 */
async function verifyBundle(file, trust, run) {
  const findings = new Findings();
  try {
    const contents = await Contents.open(file, findings, run);
    const { manifest } = contents;
    findings.about = { org: manifest.org, origin: manifest.origin, entries: manifest.entries.count,
      first_seq: manifest.entries.first_seq, last_seq: manifest.entries.last_seq,
      checkpoint: manifest.checkpoint, anchor: manifest.anchor };
    findings.leavesOut("signatures", "Each entry also carries the operator's own signature, which only the "
      + "operator's secret key can check; it is not part of a bundle");
    for (const name of ["README.txt", "STATEMENT.txt", "verify.html"]) await contents.take(name);
    const history = await openKeys(await contents.take("log-keys.json"), manifest, trust, findings);
    const head = await checkCheckpoint(contents, history, findings);
    await checkAnchor(contents, history, head, findings);
    const entries = new Entries(contents, head, findings, run);
    await entries.check();
    let names = {};
    if (contents.peek() === "names.json") {
      names = readCanonical(await contents.take("names.json"), NAMES, "names.json");
      findings.warnings.push({ text: "Names of persons in this bundle are what the server states; nothing proves them." });
    }
    contents.finish();
    await contents.settle();
    return { ...findings.verdict(), entries: entries.list, names };
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    const answers = Object.fromEntries(CHECKS.map(check => [check, NOT_CHECKED]));
    return { outcome: "unreadable", answers, reasons: {}, about: {}, warnings: [], faults: new Map(),
      entries: [], names: {}, unreadable: error.message };
  }
}
