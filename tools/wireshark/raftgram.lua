-- Wireshark dissector for raftgram's datagrams, as wire-spec.md describes them (version 1).
--
--   tshark -X lua_script:raftgram.lua -r capture.pcapng
--   or copy it into Wireshark's folder for personal Lua plugins (Help, About, Folders)
--
-- Datagrams are recognised by their first bytes, whatever the port; a port can be set by "Decode As". Checksums cover
-- the cluster's id, which is no part of most datagrams: it is learned from the handshakes of the capture, or set as the
-- preference `raftgram.cluster_id`. Sealed datagrams show their header, and their frames where these are in plain.
--
-- Fields are named as `raftgram wire decode` names them: raftgram.packet, raftgram.frame.call, raftgram.body.term.
-- raftgram.drop is the reason of section 3 for which a receiver drops the datagram, as far as bytes alone show it.

local raftgram = Proto("raftgram", "raftgram")

raftgram.prefs.cluster_id = Pref.string("Cluster id", "",
  "32 hexadecimal digits, as `raftgram status` shows them; without it ids are learned from handshakes")
raftgram.prefs.reassemble = Pref.bool("Put fragments together", true, "Show bodies that were sent in fragments")

local HEADER_BYTES = 32
local ANY = 65535
local SMALL = 2 ^ 60
local FLAGS = {
  { 0x01, "sealed", "Sealed" }, { 0x02, "ack_eliciting", "Must be acknowledged" }, { 0x04, "probe", "Probe" },
  { 0x08, "client", "From a client" }, { 0x10, "key_phase", "Odd key phase" },
}

-- Bits: LuaBitOp up to Wireshark 4.2, operators with Lua 5.4.
local band, bxor, rshift
if bit then
  band, bxor, rshift = bit.band, bit.bxor, bit.rshift
elseif bit32 then
  band, bxor, rshift = bit32.band, bit32.bxor, bit32.rshift
else
  local operators = load([[return function(a, b) return a & b end, function(a, b) return a ~ b end,
    function(a, n) return (a & 0xffffffff) >> n end]])
  band, bxor, rshift = operators()
end

-- ------------------------------------------------------------------------------------------------------------ fields

local F = {}       -- by abbreviation
local all = {}

local function field(abbr, kind, title, ...)
  local name = "raftgram." .. abbr
  if not F[name] then
    F[name] = ProtoField[kind](name, title, ...)
    all[#all + 1] = F[name]
  end
  return F[name]
end

local function title_of(name)
  return (name:gsub("_", " "):gsub("^%l", string.upper))
end

-- How each kind of field is shown.
local SHOWN = {
  u8 = "uint8", u16 = "uint16", u32 = "uint32", x32 = "uint32", x64 = "uint64", varint = "uint64", term = "uint64",
  session = "uint64", nonzero = "uint64", count = "uint32", bool = "bool", text = "string", b16 = "bytes",
  b48 = "bytes",
  rest = "bytes", part = "bytes", node = "string", maybe_node = "string", ranges = "string", maybe_ranges = "string",
  members = "string", learners = "string", name = "string", prev_term = "uint64", commit = "uint64",
  leader_commit = "uint64", greeting = "string", entries = "none", entry_count = "uint32",
  leader_address = "string", address = "string", not_zero = "uint64", expected = "uint64", any_node = "string",
  no_node = "string", divergences = "string", filter = "bytes", prefixed = "bytes", event_index = "uint64",
}

local function declare(group, schema)
  for _, item in ipairs(schema) do
    local name, kind = item[1], item[2]
    if kind == "choice" then
      if not item.hidden then field(group .. name, "string", title_of(name)) end
      for _, case in pairs(item.cases) do declare(group, case[2]) end
    elseif kind == "list" then
      field(item.group, "none", title_of(item.group))
      declare(item.group .. ".", item.of)
    elseif kind == "names" or kind == "refusal" then
      field(group .. name, "string", title_of(name))
    elseif kind ~= "body" and kind ~= "entries" then
      if kind == "x32" or kind == "x64" then
        field(group .. name, SHOWN[kind], title_of(name), base.HEX)
      else
        field(group .. name, SHOWN[kind], title_of(name))
      end
    end
  end
end

-- ------------------------------------------------------------------------------------------------------------ tables

local MEMBERSHIP = { { "voters", "members" }, { "outgoing", "members" }, { "learners", "learners" } }
local SNAPSHOT = {
  { "index", "nonzero" }, { "index_term", "nonzero" }, { "chain", "x32" }, { "bytes", "varint", 1 },
  { "digest", "x64" },
}
local VOTE = {
  { "term", "term" }, { "campaign_term", "term" }, { "campaign", "varint" }, { "last_index", "term" },
  { "last_term", "term" }, { "is_transfer", "bool" },
}
local VOTE_REPLY = {
  { "term", "term" }, { "campaign_term", "term" }, { "campaign", "varint" }, { "is_granted", "bool" },
}
local ROUND = { { "term", "term" }, { "round", "varint" } }
local OUTCOME = { { "index", "term" }, { "term", "term" }, { "result", "rest" } }
local LEVELS = { [0] = "linearizable", "lease", "local", "any-node" }
local ROLES = { [0] = "blank", "follower", "pre-candidate", "candidate", "leader", "learner" }
local REFUSALS = { "unknown-body", "malformed-body", "unavailable", "not-allowed", other = "%d" }

local function joined(...)
  local out = {}
  for _, part in ipairs({ ... }) do
    for _, item in ipairs(part) do out[#out + 1] = item end
  end
  return out
end

local STANDINGS = { [0] = "member", "joining", "removed", "replaced" }
local CHANGE_OUTCOMES = { [0] = "not-asked", "pending", "settled", "superseded" }

local STATUS = {
  { "node", "maybe_node" }, { "address", "text" }, { "role", "names", ROLES }, { "term", "term" },
  { "commit", "term" }, { "applied", "term" }, { "last", "term" }, { "incarnation", "u32" }, { "cluster", "b16" },
  { "store", "b16" }, { "leader", "maybe_node" },
  { "has_membership", "choice", hidden = true, cases = { [0] = { "", {} }, { "", MEMBERSHIP } } },
  { "peers", "list", group = "peer", of = {
    { "node", "node" }, { "rtt_us", "varint" }, { "retransmits", "varint" }, { "loss_ppm", "u32" },
  } },
  { "received", "varint" }, { "accepted", "varint" }, { "retransmits", "varint" }, { "duplicates", "varint" },
  { "drops", "list", group = "drops", of = { { "reason", "text" }, { "count", "varint" } } },
  { "snapshot", "term" },
  { "transfers", "list", group = "transfer", of = {
    { "to", "node" }, { "index", "term" }, { "bytes", "varint" }, { "bytes_total", "varint" },
    { "is_transferred", "bool" },
  } },
  { "damage", "varint" },
  { "has_hole", "choice", hidden = true, cases = { [0] = { "", {} }, { "", {
    { "hole_first", "term" }, { "hole_last", "term" }, { "hole_fetched", "varint" }, { "hole_from", "maybe_node" },
  } } } },
  { "version", "term", appended = true }, { "standing", "names", STANDINGS, appended = true },
  { "agreed", "term", appended = true }, { "divergences", "divergences", appended = true },
  { "sent", "varint", appended = true }, { "sent_bytes", "varint", appended = true },
}
-- [W-80]: why a change was refused, and what its two numbers are.
local CHANGE_REFUSALS = {
  { "running", "index" }, { "version", "expected", "actual" }, { "unknown", "node" }, { "taken", "node" },
  { "store-in-use", "node" }, { "not-caught-up", "node", "lag" }, { "quorum-at-risk", "alive", "needed" },
  { "last-voter" }, { "too-many" }, { "address" }, { "silent" }, { "other-node", "node" }, { "other-cluster" },
  { "other-store" }, { "no-target" }, { "unheard", "node" },
}

-- [W-110]
local PPM, FAULT_US = 1000001, 86400000001
local FAULTS = {
  { "lasting_ms", "varint", 1, below = 86400001 },
  { "links", "choice", cases = { [0] = { "nodes", {} }, { "clients", {} }, { "node", { { "node", "node" } } } } },
  { "is_blocked", "bool" }, { "mtu", "varint" }, { "loss_ppm", "varint", below = PPM },
  { "to_bad_ppm", "varint", below = PPM }, { "to_good_ppm", "varint", below = PPM },
  { "loss_bad_ppm", "varint", below = PPM }, { "loss_good_ppm", "varint", below = PPM },
  { "delay_us", "varint", below = FAULT_US }, { "jitter_us", "varint", below = FAULT_US },
  { "duplicate_ppm", "varint", below = PPM }, { "reorder_ppm", "varint", below = PPM },
  { "reorder_delay_us", "varint", below = FAULT_US }, { "corrupt_ppm", "varint", below = PPM },
}
local BODIES = {
  [0x01] = { "pre-vote", VOTE },
  [0x02] = { "pre-vote-reply", VOTE_REPLY },
  [0x03] = { "vote", VOTE },
  [0x04] = { "vote-reply", VOTE_REPLY },
  [0x05] = { "append", {
    { "term", "term" }, { "attempt", "varint" }, { "prev_index", "term" }, { "prev_term", "prev_term" },
    { "commit", "commit" }, { "chain", "x32" }, { "entries", "entries" },
  } },
  [0x06] = { "append-reply", { { "term", "term" }, { "attempt", "varint" }, { "outcome", "choice", cases = {
    [0] = { "accepted", { { "match_index", "term" } } },
    { "refused", {
      { "prev_index", "term" }, { "conflict_term", "term" }, { "conflict_index", "term" }, { "last_index", "term" },
    } },
    { "evicted", { { "prev_index", "term" } } },
  } } } },
  [0x07] = { "heartbeat", joined(ROUND, { { "commit", "term" } }) },
  [0x08] = { "heartbeat-reply", ROUND },
  [0x09] = { "read-probe", ROUND },
  [0x0a] = { "read-probe-reply", ROUND },
  [0x0b] = { "transfer", { { "term", "term" }, { "incarnation", "u32" }, { "last_index", "term" } } },
  [0x0c] = { "transfer-reply", { { "term", "term" }, { "is_taken", "bool" } } },
  [0x10] = { "snapshot-offer", joined({ { "term", "term" } }, SNAPSHOT) },
  [0x11] = { "snapshot-offer-reply", {
    { "term", "term" }, { "index", "term" }, { "match_index", "term" },
    { "outcome", "choice", cases = {
      [0] = { "pulling", { { "bytes", "varint" } } }, { "transferred", {} }, { "installed", {} },
    } },
  } },
  [0x12] = { "snapshot-pull", joined(SNAPSHOT, { { "offset", "varint" }, { "length", "varint" } }) },
  [0x13] = { "snapshot-data", { { "outcome", "choice", cases = {
    [0] = { "data", { { "digest", "x64" }, { "offset", "varint" }, { "content", "rest" } } }, { "not-here", {} },
  } } } },
  [0x14] = { "range", {
    { "term", "term" }, { "question", "varint" }, { "damaged_from", "term" }, { "first", "term" }, { "last", "term" },
  } },
  [0x15] = { "range-reply", {
    { "term", "term" }, { "question", "varint" }, { "commit", "leader_commit" },
    { "outcome", "choice", cases = {
      [0] = { "entries", { { "chain", "x32" }, { "entries", "entry_count" } } }, { "covered", SNAPSHOT },
      { "nothing", {} },
    } },
  } },
  [0x16] = { "read-index", { { "term", "term" }, { "question", "varint" } } },
  [0x17] = { "read-index-reply", { { "term", "term" }, { "question", "varint" }, { "index", "leader_commit" } } },
  [0x18] = { "state-digests", {
    { "layout", "varint" },
    { "windows", "list", group = "window", most = 32, of = {
      { "span", "varint", 1 }, { "last", "nonzero" }, { "digest", "x32" },
    } },
    { "has_snapshot", "choice", hidden = true, cases = { [0] = { "", {} }, { "", {
      { "snapshot_format", "varint" }, { "snapshot_index", "term" }, { "snapshot_digest", "x64" },
    } } } },
  } },
  [0x40] = { "open-session", {} },
  [0x41] = { "close-session", { { "session", "session" } } },
  [0x42] = { "propose", {
    { "session", "session" }, { "sequence", "varint", 1 }, { "finished", "maybe_ranges" }, { "command", "rest" },
  } },
  [0x43] = { "read", { { "level", "names", LEVELS }, { "query", "rest" } } },
  [0x44] = { "status", {} },
  [0x45] = { "founding", {} },
  [0x46] = { "take-snapshot", { { "through", "term" } } },
  [0x47] = { "change-membership", { { "expected", "expected" }, { "change", "choice", cases = {
    [0] = { "add", { { "node", "node" }, { "store", "b16" }, { "address", "address" } } },
    { "promote", { { "node", "node" } } }, { "remove", { { "node", "node" } } },
    { "move", { { "node", "node" }, { "address", "address" } } },
  } } } },
  [0x48] = { "members", { { "index", "not_zero" }, { "term", "not_zero" } } },
  [0x49] = { "transfer-leadership", { { "to", "any_node" } } },
  [0x4a] = { "watch", { { "after", "term" }, { "wait_us", "varint", below = 60000001 }, { "filter", "filter" } } },
  [0x4c] = { "set-faults", { { "faults", "choice", cases = { [0] = { "clear", {} }, { "set", FAULTS } } } } },
  [0x80] = { "session-opened", { { "session", "session" } } },
  [0x81] = { "session-closed", {} },
  [0x82] = { "applied", OUTCOME },
  [0x83] = { "read", OUTCOME },
  [0x84] = { "status", STATUS },
  [0x85] = { "redirect", { { "leader", "maybe_node" }, { "address", "leader_address" } } },
  [0x86] = { "busy", { { "retry_after_us", "varint" } } },
  [0x87] = { "session-expired", {} },
  [0x88] = { "sequence-finished", {} },
  [0x89] = { "too-large", { { "bytes_max", "varint" } } },
  [0x8a] = { "refused", { { "code", "names", REFUSALS }, { "text", "text" } } },
  [0x8b] = { "founded", joined({ { "cluster", "b16" } }, MEMBERSHIP) },
  [0x8c] = { "snapshot-state", {
    { "taken", "term" }, { "in_force", "choice", hidden = true, cases = { [0] = { "", {} }, { "", SNAPSHOT } } },
  } },
  [0x8d] = { "changed", { { "index", "term" }, { "term", "not_zero" } } },
  [0x8e] = { "membership-state", joined({
    { "leader", "node" }, { "term", "term" }, { "commit", "term" }, { "version", "term" }, { "is_settled", "bool" },
    { "outcome", "names", CHANGE_OUTCOMES }, { "transferring", "no_node" },
  }, MEMBERSHIP, { { "members", "list", group = "member", of = {
    { "node", "node" }, { "match_index", "term" }, { "lag", "varint" }, { "is_heard", "bool" },
    { "is_caught_up", "bool" },
  } } }) },
  [0x8f] = { "change-refused", { { "reason", "refusal" }, { "text", "text" } } },
  [0x90] = { "transferring", { { "to", "node" }, { "term", "term" } } },
  [0x91] = { "watched", { { "through", "term" }, { "events", "list", group = "event", most = 4096, of = {
    { "index", "event_index" }, { "term", "term" }, { "event", "prefixed" },
  } } } },
  [0x92] = { "compacted", { { "oldest", "term" } } },
  [0x93] = { "faults-set", {} },
}

-- [W-55], [W-61]
local CHECKS = {
  [0x12] = function(v) return v.length >= 1 and v.length <= 2 ^ 20 and v.offset + v.length <= v.bytes end,
  [0x14] = function(v)
    return v.damaged_from >= 1 and v.damaged_from <= v.first and (v.last == 0 or v.last >= v.first)
  end,
}

local DESCRIPTION = {
  { "version_min", "u8" }, { "version_max", "u8" }, { "features", "x64" }, { "store", "b16" }, { "boot_nonce", "b16" },
  { "cluster", "b16" }, { "election_timeout_min_us", "varint" }, { "election_timeout_max_us", "varint" },
  { "heartbeat_us", "varint" }, { "datagram_bytes_max", "u16" }, { "credit_bytes", "varint" },
  { "greeting", "greeting" },
}
local NONCES = { { "nonce_a", "x64" }, { "nonce_b", "x64" } }
local CALL = { { "call", "varint" }, { "body", "body" } }
local FRAGMENT = { { "call", "varint" }, { "total_bytes", "varint" }, { "offset", "varint" }, { "part", "part" } }
local FRAMES = {
  [0x00] = { "padding", { { "bytes", "count" } } },
  [0x01] = { "hello", joined({ { "nonce_a", "x64" } }, DESCRIPTION) },
  [0x02] = { "hello-ack", joined(NONCES, DESCRIPTION) },
  [0x03] = { "confirm", NONCES },
  [0x04] = { "welcome", { { "nonce_a", "x64" }, { "incarnation", "u32" } } },
  [0x05] = { "version", { { "min", "u8" }, { "max", "u8" } } },
  [0x06] = { "stale-incarnation", { { "current", "u32" } } },
  [0x07] = { "ack", { { "delay_us", "varint" }, { "packets", "ranges" } } },
  [0x08] = { "credit", { { "bytes_total", "varint" } } },
  [0x09] = { "mtu-probe", { { "bytes", "count" } } },
  [0x0a] = { "seal", { { "session", "x32" }, { "message", "b48" } } },
  [0x0b] = { "seal-refused", {
    { "reason", "names", { "seal required", "key unknown", "no seal", other = "refusal %d" } },
  } },
  [0x10] = { "request", CALL, class = "again", is_request = true },
  [0x11] = { "request", CALL, class = "once", is_request = true },
  [0x12] = { "request-fragment", FRAGMENT, class = "again", is_request = true },
  [0x13] = { "request-fragment", FRAGMENT, class = "once", is_request = true },
  [0x14] = { "reply", CALL, is_reply = true },
  [0x15] = { "reply-fragment", FRAGMENT, is_reply = true },
  [0x16] = { "cancel", { { "call", "varint" } } },
  [0x17] = { "finished", { { "calls", "ranges" } } },
  [0x18] = { "call-refused", { { "call", "varint" },
    { "reason", "names", { "busy", "link unknown", "too large", "reply too large", other = "refusal %d" } } },
    is_reply = true },
  [0x19] = { "notice", { { "body", "body" } } },
}

for _, frame in pairs(FRAMES) do declare("frame.", frame[2]) end
for _, body in pairs(BODIES) do declare("body.", body[2]) end
declare("entry.", joined({ { "term", "term" }, { "kind", "name" }, { "content", "rest" } }, MEMBERSHIP))

for _, name in ipairs({ "index", "expected", "actual", "lag", "alive", "needed" }) do
  field("body." .. name, "uint64", title_of(name))
end

local H = {
  version = field("version", "uint8", "Version"),
  flags = field("flags", "uint8", "Flags", base.HEX),
  crc = field("crc", "uint32", "CRC-32", base.HEX),
  crc_expected = field("crc_expected", "uint32", "CRC-32 that it should be", base.HEX),
  crc_status = field("crc_status", "string", "CRC-32 status"),
  seal_id = field("seal_id", "uint32", "Key or session id", base.HEX),
  mac = field("mac", "bytes", "Authentication code"),
  sealed = field("sealed", "bytes", "Sealed frames"),
  tag = field("cluster_tag", "uint32", "Cluster tag", base.HEX),
  source = field("source", "string", "Source"),
  destination = field("destination", "string", "Destination"),
  source_incarnation = field("source_incarnation", "uint32", "Source incarnation"),
  destination_incarnation = field("destination_incarnation", "uint32", "Destination incarnation"),
  packet = field("packet", "uint64", "Packet number"),
  drop = field("drop", "string", "Dropped as"),
  frame = field("frame", "none", "Frame"),
  frame_type = field("frame.type", "string", "Type"),
  frame_code = field("frame.code", "uint8", "Type code", base.HEX),
  frame_class = field("frame.class", "string", "Class"),
  frame_body = field("frame.body", "bytes", "Body"),
  frame_malformed = field("frame.malformed", "bytes", "Malformed"),
  body = field("body", "none", "Body"),
  kind = field("body.kind", "string", "Kind"),
  group = field("body.group", "uint64", "Group"),
  opaque = field("body.opaque", "bytes", "Opaque body"),
  body_malformed = field("body.malformed", "bytes", "Malformed body"),
  entry = field("entry", "none", "Entry"),
  peer = field("peer", "none", "Link"),
  transfer = field("transfer", "none", "Snapshot on its way"),
  member = field("member", "none", "Member"),
  window = field("window", "none", "Window"),
  event = field("event", "none", "Event"),
  drops = field("drops", "none", "Drops"),
  request_in = field("request_in", "framenum", "Request in", base.NONE, frametype.REQUEST),
  reply_in = field("reply_in", "framenum", "Reply in", base.NONE, frametype.RESPONSE),
  response_time = field("response_time", "relative_time", "Response time"),
  again_of = field("retransmission_of", "framenum", "Sent again; first in", base.NONE, frametype.RETRANS_PREV),
  copy_of = field("copy_of", "framenum", "Copy of the datagram in", base.NONE, frametype.DUP_ACK),
  whole_in = field("whole_in", "framenum", "Whole body in"),
}
for _, flag in ipairs(FLAGS) do
  H["flag_" .. flag[2]] = field("flags." .. flag[2], "bool", flag[3], 8, nil, flag[1])
end
raftgram.fields = all

local function expert_info(name, text, group, severity)
  return ProtoExpert.new("raftgram.expert." .. name, text, expert.group[group], expert.severity[severity])
end

local E = {
  drop = expert_info("dropped", "A receiver drops this", "PROTOCOL", "ERROR"),
  crc = expert_info("crc_wrong", "Wrong CRC-32", "CHECKSUM", "ERROR"),
  malformed = expert_info("malformed", "Malformed", "MALFORMED", "ERROR"),
  again = expert_info("sent_again", "Sent again", "SEQUENCE", "NOTE"),
  copy = expert_info("copy", "Copy of a datagram", "SEQUENCE", "NOTE"),
}
raftgram.experts = { E.drop, E.crc, E.malformed, E.again, E.copy }

-- ----------------------------------------------------------------------------------------------------------- reading

local Reader = {}
Reader.__index = Reader

local function malformed(why)
  error({ malformed = why }, 0)
end

local function new_reader(tvb, first, last)
  return setmetatable({ tvb = tvb, at = first, last = last }, Reader)
end

function Reader:left() return self.last - self.at end

function Reader:take(count)
  if count > self:left() then malformed("bytes end inside a field") end
  local range = self.tvb(self.at, count)
  self.at = self.at + count
  return range
end

-- An empty range cannot be made; the place of nothing is the byte before it.
function Reader:take_all()
  if self:left() == 0 then return nil end
  return self:take(self:left())
end

local WIDTHS = { [0] = 1, 2, 4, 8 }

-- [W-1]. The number as Lua has it, as the tree wants it, and where it stands.
function Reader:varint()
  local first = self:take(1)
  local width = WIDTHS[rshift(first:uint(), 6)]
  if width == 1 then return first:uint(), UInt64.new(first:uint(), 0), first end
  self.at = self.at - 1
  local range = self:take(width)
  local high, low = 0, 0
  if width == 8 then
    high, low = band(range(0, 4):uint(), 0x3fffffff), range(4, 4):uint()
  elseif width == 4 then
    low = band(range:uint(), 0x3fffffff)
  else
    low = band(range:uint(), 0x3fff)
  end
  local number = high * 4294967296 + low
  if number < 2 ^ (4 * width - 2) then malformed("a varint in a longer form") end
  return number, UInt64.new(low, high), range
end

local function hex(range)
  return tostring(range:bytes()):lower():gsub("[^0-9a-f]", "")
end

local function digits(number)
  return string.format("%.0f", number)
end

local function node_name(id)
  return id == ANY and "any" or "n" .. id
end

local function uint64_of(number)
  return UInt64.new(number % 4294967296, math.floor(number / 4294967296))
end

-- ctx: reader, tree, group (a prefix of field names), values (read so far). What is nowhere stands at the byte before.
local function put(ctx, name, range, value)
  local f = F["raftgram." .. ctx.group .. name]
  range = range or ctx.reader.tvb(math.max(ctx.reader.at - 1, 0), 1)
  if value == nil then return ctx.tree:add(f, range) end
  return ctx.tree:add(f, range, value)
end

local read  -- below

-- Second bytes that a first one does not allow: longer forms, surrogates, and what is above the last character.
local SECOND = { [0xe0] = { 0xa0, 0xbf }, [0xed] = { 0x80, 0x9f }, [0xf0] = { 0x90, 0xbf }, [0xf4] = { 0x80, 0x8f } }

local function is_utf8(text)
  local at = 1
  while at <= #text do
    local first, more = text:byte(at), nil
    if first < 0x80 then more = 0
    elseif first >= 0xc2 and first <= 0xdf then more = 1
    elseif first >= 0xe0 and first <= 0xef then more = 2
    elseif first >= 0xf0 and first <= 0xf4 then more = 3
    else return false end
    for place = 1, more do
      local bounds = place == 1 and SECOND[first] or { 0x80, 0xbf }
      local byte = text:byte(at + place)
      if not byte or byte < bounds[1] or byte > bounds[2] then return false end
    end
    at = at + more + 1
  end
  return true
end

-- Text, and where it stands: at its length if it is empty.
local function read_text(reader)
  local length, _, at = reader:varint()
  if length > 255 then malformed("a text of more than 255 bytes") end
  if length == 0 then return "", at end
  local range = reader:take(length)
  local text = range:raw()
  if not is_utf8(text) then malformed("a text that is no UTF-8") end
  -- What is shown would end at a zero byte.
  return (text:gsub("\0", "\\0")), range
end

local function read_ranges(reader)
  local begin = reader.at
  local count = reader:varint()
  if count > 32 then malformed("more than 32 ranges") end
  local texts, below = {}, nil
  for place = 1, count do
    local number = reader:varint()
    local high = number
    if place > 1 then high = below - number - 2 end
    local low = high - reader:varint()
    if low < 0 then malformed("a range below 0") end
    texts[place] = low == high and digits(low) or digits(low) .. "-" .. digits(high)
    below = low
  end
  return count, table.concat(texts, ","), reader.tvb(begin, reader.at - begin)
end

-- [W-46]
local function read_members(ctx, name)
  local reader = ctx.reader
  local begin = reader.at
  local count = reader:varint()
  if count > 255 then malformed("more than 255 members") end
  local texts, list, last = {}, {}, 0
  for place = 1, count do
    local id = reader:take(2):uint()
    local store = hex(reader:take(16))
    local address = read_text(reader)
    if id <= last or id == ANY or address == "" then malformed("ids that do not ascend, or an empty address") end
    last = id
    list[id] = store
    texts[place] = "n" .. id .. "=" .. address .. "@" .. store
  end
  put(ctx, name, reader.tvb(begin, reader.at - begin), table.concat(texts, " "))
  ctx.values[name] = list
end

local function check_membership(v)
  local stores, count = {}, 0
  for _, name in ipairs({ "voters", "outgoing", "learners" }) do
    for id, store in pairs(v[name]) do
      if not stores[id] then count = count + 1 end
      if stores[id] and stores[id] ~= store then malformed("two stores of one id") end
      if name == "learners" and v.voters[id] then malformed("a learner that is a voter") end
      stores[id] = store
    end
  end
  if next(v.voters) == nil or count > 255 then malformed("no voter, or too many members") end
end

-- A tree for what is read to be judged, and not shown.
local NOWHERE = { set_text = function() end }
function NOWHERE.add() return NOWHERE end

-- [W-45]
local function read_entries(ctx, is_shown)
  local reader, count = ctx.reader, 0
  local begin = reader.at
  while reader:left() > 0 do
    local first = reader.at
    local head = reader:varint()
    local kind, below = head % 4, math.floor(head / 4)
    local length = reader:varint()
    local content = length > 0 and reader:take(length) or nil
    if kind > 2 or below > ctx.values.term or kind == 0 and content then malformed("an entry that cannot be") end
    local names = { [0] = "noop", "command", "membership" }
    local whole = reader.tvb(first, reader.at - first)
    local tree = is_shown and ctx.tree:add(H.entry, whole) or NOWHERE
    tree:set_text("Entry: " .. names[kind] .. " of term " .. digits(ctx.values.term - below))
    local inner = { reader = reader, tree = tree, group = "entry.", values = {} }
    put(inner, "term", whole, uint64_of(ctx.values.term - below))
    put(inner, "kind", whole, names[kind])
    if kind == 1 and content then put(inner, "content", content) end
    if kind == 2 then
      inner.reader = new_reader(reader.tvb, reader.at - length, reader.at)
      read(inner, MEMBERSHIP)
      if inner.reader:left() > 0 then malformed("bytes behind a membership") end
    end
    count = count + 1
  end
  return count, begin
end

local function unzigzag(number)
  return number % 2 == 0 and number / 2 or -(number + 1) / 2
end

local KINDS = {}

local function fixed(width)
  return function(ctx, name)
    local range = ctx.reader:take(width)
    ctx.values[name] = width == 8 and range:uint64() or range:uint()
    put(ctx, name, range, ctx.values[name])
  end
end
KINDS.u8, KINDS.u16, KINDS.u32, KINDS.x32, KINDS.x64 = fixed(1), fixed(2), fixed(4), fixed(4), fixed(8)

function KINDS.varint(ctx, name, item)
  local number, value, range = ctx.reader:varint()
  if number < (item[3] or 0) or number >= (item.below or 2 ^ 63) then
    malformed(name .. " cannot be " .. digits(number))
  end
  ctx.values[name] = number
  put(ctx, name, range, value)
end

function KINDS.term(ctx, name) KINDS.varint(ctx, name, { name, "varint", 0, below = SMALL }) end
function KINDS.session(ctx, name) KINDS.varint(ctx, name, { name, "varint", 1, below = SMALL }) end
KINDS.nonzero = KINDS.session

function KINDS.bool(ctx, name)
  local range = ctx.reader:take(1)
  if range:uint() > 1 then malformed("neither yes nor no") end
  ctx.values[name] = range:uint() == 1
  put(ctx, name, range, ctx.values[name])
end

function KINDS.names(ctx, name, item)
  local range = ctx.reader:take(1)
  local text = item[3][range:uint()]
  if not text then
    if not item[3].other then malformed(name .. " cannot be " .. range:uint()) end
    text = item[3].other:format(range:uint())
  end
  ctx.values[name] = text
  put(ctx, name, range, text)
end

function KINDS.text(ctx, name)
  local text, range = read_text(ctx.reader)
  ctx.values[name] = text
  put(ctx, name, range, text)
end

function KINDS.b16(ctx, name)
  local range = ctx.reader:take(16)
  ctx.values[name] = hex(range)
  put(ctx, name, range)
end

function KINDS.b48(ctx, name) put(ctx, name, ctx.reader:take(48)) end

function KINDS.rest(ctx, name)
  local range = ctx.reader:take_all()
  if range then put(ctx, name, range) end
end

-- [W-103]
function KINDS.filter(ctx, name)
  if ctx.reader:left() > 4096 then malformed("a filter of more than 4,096 bytes") end
  KINDS.rest(ctx, name)
end

function KINDS.prefixed(ctx, name)
  local count = ctx.reader:varint()
  if count > ctx.reader:left() then malformed("bytes end inside a field") end
  if count > 0 then put(ctx, name, ctx.reader:take(count)) end
end

-- Events stand in order, and none beyond what the answer goes through. [W-101]
function KINDS.event_index(ctx, name)
  KINDS.term(ctx, name)
  local outer, index = ctx.outer, ctx.values[name]
  if index > outer.through or index <= (outer.last_event or -1) then malformed("events out of order") end
  outer.last_event = index
end

function KINDS.part(ctx, name)
  local range = ctx.reader:take_all()
  if not range or ctx.values.offset + range:len() > ctx.values.total_bytes then
    malformed("a fragment of nothing, or past its total")
  end
  ctx.part = range
  put(ctx, name, range)
end

function KINDS.count(ctx, name)
  local range = ctx.reader:take_all()
  put(ctx, name, range, range and range:len() or 0)
end

function KINDS.node(ctx, name)
  local range = ctx.reader:take(2)
  if range:uint() == 0 or range:uint() == ANY then malformed("no node has this id") end
  ctx.values[name] = range:uint()
  put(ctx, name, range, node_name(range:uint()))
end

-- A node, or none of which there is a word.
local function node_or(none)
  return function(ctx, name)
    local range = ctx.reader:take(2)
    if range:uint() == ANY then malformed("no node has this id") end
    ctx.values[name] = range:uint()
    put(ctx, name, range, range:uint() == 0 and none or node_name(range:uint()))
  end
end
KINDS.maybe_node, KINDS.any_node, KINDS.no_node = node_or("unknown"), node_or("any"), node_or("none")

function KINDS.leader_address(ctx, name)
  if ctx.values.leader ~= 0 then KINDS.text(ctx, name) end
end

function KINDS.address(ctx, name)
  KINDS.text(ctx, name)
  if ctx.values[name] == "" then malformed("an empty address") end
end

-- A number below 2^60, or 0 for none; `less` is what it is shown without.
local function number_or_none(less)
  return function(ctx, name)
    local number, _, range = ctx.reader:varint()
    if number >= SMALL then malformed(name .. " cannot be " .. digits(number)) end
    if number > 0 then put(ctx, name, range, uint64_of(number - less)) end
  end
end
KINDS.not_zero, KINDS.expected = number_or_none(0), number_or_none(1)

-- [W-94]
function KINDS.divergences(ctx, name)
  local reader, texts, begin = ctx.reader, {}, ctx.reader.at
  local count = reader:varint()
  if count > 255 then malformed("a list of " .. digits(count)) end
  for place = 1, count do
    local id, kind, after, through = reader:take(2):uint(), reader:take(1):uint(), reader:varint(), reader:varint()
    if id == 0 or id == ANY or kind > 1 or through <= after or through >= SMALL then malformed("no difference") end
    texts[place] = kind == 1 and "snapshot " .. digits(through) .. " differs from n" .. id
      or "results of entries " .. digits(after + 1) .. " to " .. digits(through) .. " differ from n" .. id
  end
  if count > 0 then put(ctx, name, reader.tvb(begin, reader.at - begin), table.concat(texts, "; ")) end
end

-- [W-80]
function KINDS.refusal(ctx, name)
  local code = ctx.reader:take(1)
  local refusal = CHANGE_REFUSALS[code:uint()] or { tostring(code:uint()) }
  if code:uint() == 0 then malformed("no reason is 0") end
  put(ctx, name, code, refusal[1])
  for place = 2, 3 do
    local number, value, range = ctx.reader:varint()
    local inner = refusal[place]
    if inner == "node" then
      if number == 0 or number >= ANY then malformed("no node has this id") end
      put(ctx, inner, range, node_name(number))
    elseif inner then
      if inner ~= "lag" and inner ~= "alive" and inner ~= "needed" and number >= SMALL then malformed(inner) end
      put(ctx, inner, range, value)
    end
  end
end

function KINDS.maybe_ranges(ctx, name)
  local count, text, range = read_ranges(ctx.reader)
  ctx.values[name] = text
  put(ctx, name, range, text)
  return count
end

function KINDS.ranges(ctx, name)
  if KINDS.maybe_ranges(ctx, name) == 0 then malformed("no range") end
end

KINDS.members = read_members

function KINDS.learners(ctx, name)
  read_members(ctx, name)
  check_membership(ctx.values)
end

function KINDS.prev_term(ctx, name)
  local below, _, range = ctx.reader:varint()
  if below > ctx.values.term then malformed("a term below 0") end
  ctx.values[name] = ctx.values.term - below
  put(ctx, name, range, uint64_of(ctx.values[name]))
end

function KINDS.commit(ctx, name)
  local number, _, range = ctx.reader:varint()
  local commit = ctx.values.prev_index + unzigzag(number)
  if commit < 0 or commit >= SMALL then malformed("a commit index that cannot be") end
  ctx.values[name] = commit
  put(ctx, name, range, uint64_of(commit))
end

function KINDS.leader_commit(ctx, name)
  local leads = ctx.reader:take(1):uint()
  local commit, value, range = ctx.reader:varint()
  if leads > 1 or commit >= SMALL or commit > 0 and leads == 0 then malformed("a commit index of no leader") end
  if leads == 1 then put(ctx, name, range, value) end
end

function KINDS.entries(ctx) ctx.values.entries = read_entries(ctx, true) end

function KINDS.entry_count(ctx, name)
  local count = read_entries(ctx, false)
  put(ctx, name, nil, count)
end

function KINDS.greeting(ctx, name)
  local range = ctx.reader:take(1)
  if range:uint() > 1 then malformed("an unknown greeting") end
  local text = "plain"
  if range:uint() == 1 then text = "founding " .. hex(ctx.reader:take(8)) end
  put(ctx, name, range, text)
end

function KINDS.choice(ctx, name, item)
  local range = ctx.reader:take(1)
  local case = item.cases[range:uint()]
  if not case then malformed(name .. " cannot be " .. range:uint()) end
  ctx.values[name] = case[1]
  if not item.hidden then put(ctx, name, range, case[1]) end
  read(ctx, case[2])
end

function KINDS.list(ctx, _, item)
  local count = ctx.reader:varint()
  if count > (item.most or 255) then malformed("a list of " .. digits(count)) end
  for _ = 1, count do
    local begin = ctx.reader.at
    local tree = ctx.tree:add(H[item.group], ctx.reader.tvb(begin, 1))
    local inner = { reader = ctx.reader, tree = tree, group = item.group .. ".", values = {}, outer = ctx.values }
    read(inner, item.of)
    -- [W-92]
    if inner.values.span and inner.values.last % inner.values.span ~= 0 then malformed("a window cut short") end
    tree:set_len(ctx.reader.at - begin)
  end
end

read = function(ctx, schema)
  for _, item in ipairs(schema) do
    -- What later versions appended is not there in what earlier ones sent.
    if not item.appended or ctx.reader:left() > 0 then KINDS[item[2]](ctx, item[1], item) end
  end
end

-- ---------------------------------------------------------------------------------------------------------- checksums

local crc_table = {}
for byte = 0, 255 do
  local crc = byte
  for _ = 1, 8 do
    crc = band(crc, 1) == 1 and bxor(rshift(crc, 1), 0xedb88320) or rshift(crc, 1)
  end
  crc_table[byte] = crc
end

local function crc_update(crc, bytes)
  for place = 1, #bytes do
    crc = bxor(rshift(crc, 8), crc_table[band(bxor(crc, bytes:byte(place)), 0xff)])
  end
  return crc
end

-- [W-4]: what the crc field should hold. LuaBitOp's numbers have a sign, the result has none.
local function crc_of(parts)
  local crc = -1
  for _, part in ipairs(parts) do crc = crc_update(crc, part) end
  return bxor(crc, -1) % 4294967296
end

local function from_hex(text)
  return (text:gsub("..", function(pair) return string.char(tonumber(pair, 16)) end))
end

local ZERO_ID = string.rep("\0", 16)

-- ---------------------------------------------------------------------------------------------- what the capture tells

local state

function raftgram.init()
  state = {
    clusters = {},    -- tag -> id
    datagrams = {},   -- path and packet number -> the capture's first frame with it
    pieces = {},      -- what of a call was sent -> { frame, packet }
    calls = {},       -- call -> { request, reply, began }
    notes = {},       -- capture frame -> what is known of its datagrams and frames
    parts = {},       -- call and direction -> parts of a body
    bodies = {},      -- capture frame and place -> a body put together
  }
  local id = raftgram.prefs.cluster_id:lower():gsub("[^0-9a-f]", "")
  if #id == 32 then
    local bytes = from_hex(id)
    state.only = crc_of({ bytes })
    state.clusters[state.only] = bytes
  end
end

local function learn_cluster(id)
  local bytes = from_hex(id)
  if bytes ~= ZERO_ID then state.clusters[crc_of({ bytes })] = bytes end
end

-- --------------------------------------------------------------------------------------------------------- datagrams

-- The two ends of a call, the caller first: addresses, and both incarnations. [W-35]
local function path_of(pinfo, header, is_reply)
  local source = tostring(pinfo.src) .. ":" .. pinfo.src_port .. "/" .. header.source_incarnation
  local destination = tostring(pinfo.dst) .. ":" .. pinfo.dst_port .. "/" .. header.destination_incarnation
  return is_reply and destination .. " " .. source or source .. " " .. destination
end

-- Takes note of a frame of a call the first time the capture is read.
local function note_call(pinfo, header, frame, values, place)
  local note = {}
  local path = path_of(pinfo, header, frame.is_reply)
  local id = path .. " " .. digits(values.call)
  local call = state.calls[id] or {}
  state.calls[id] = call
  note.call = call
  local piece = id .. " " .. frame[1] .. " " .. digits(values.offset or 0)
  local before = state.pieces[piece]
  if before and before.packet ~= header.packet and not state.notes[pinfo.number].copy_of then
    note.again_of = before.number
  elseif not before then
    state.pieces[piece] = { number = pinfo.number, packet = header.packet }
  end
  if frame.is_request and not call.request then
    call.request, call.began = pinfo.number, pinfo.rel_ts
  elseif frame.is_reply and not call.reply then
    call.reply, call.ended = pinfo.number, pinfo.rel_ts
  end
  state.notes[pinfo.number][place] = note
end

local function show_call(ctx, pinfo, frame, note)
  local call = note.call
  if frame.is_request and call.reply then
    ctx.tree:add(H.reply_in, call.reply):set_generated()
  end
  if frame.is_reply and call.request then
    ctx.tree:add(H.request_in, call.request):set_generated()
  end
  if frame.is_reply and call.request and call.reply == pinfo.number then
    local seconds = math.max(call.ended - call.began, 0)
    local whole = math.floor(seconds)
    local time = NSTime.new(whole, math.floor((seconds - whole) * 1e9 + 0.5))
    ctx.tree:add(H.response_time, time):set_generated()
  end
  if note.again_of then
    ctx.tree:add(H.again_of, note.again_of):set_generated()
    ctx.tree:add_proto_expert_info(E.again)
  end
end

-- Collects the parts of a body; true when this one makes it whole.
local function collect(pinfo, header, frame, ctx, place)
  local way = frame.is_reply and "reply" or "request"
  local id = path_of(pinfo, header, frame.is_reply) .. " " .. digits(ctx.values.call) .. " " .. way
  local body = state.parts[id] or { total = ctx.values.total_bytes, parts = {}, bytes = 0 }
  state.parts[id] = body
  if body.parts[ctx.values.offset] or body.is_whole or body.total ~= ctx.values.total_bytes then return end
  body.parts[ctx.values.offset] = ctx.part:bytes()
  body.bytes = body.bytes + ctx.part:len()
  if body.bytes < body.total then return end
  local whole, at = ByteArray.new(), 0
  while at < body.total do
    local part = body.parts[at]
    if not part then return end
    whole:append(part)
    at = at + part:len()
  end
  body.is_whole, body.parts = true, {}
  state.bodies[pinfo.number .. " " .. place] = whole
end

local function dissect_body(reader, tree, info)
  local begin, length = reader.at, reader:left()
  local range = length > 0 and reader.tvb(begin, length) or nil
  local first = range and range(0, 1):uint() or 0
  if first == 0 or first >= 0xc0 then
    local ctx = { reader = reader, tree = tree, group = "body.", values = {} }
    if range then put(ctx, "opaque", reader:take_all()) end
    info[#info + 1] = "opaque"
    return
  end
  local subtree = tree:add(H.body, range)
  local ctx = { reader = reader, tree = subtree, group = "body.", values = {} }
  local body = BODIES[first]
  local ok, fault = pcall(function()
    reader:take(1)
    if not body then malformed("a body of unknown kind") end
    put(ctx, "kind", range(0, 1), body[1])
    local group, value, at = reader:varint()
    put(ctx, "group", at, value)
    if group ~= 0 then malformed("a group other than 0") end
    read(ctx, body[2])
    if CHECKS[first] and not CHECKS[first](ctx.values) then malformed("a range that cannot be") end
  end)
  local name = body and body[1] or string.format("body %02x", first)
  subtree:set_text("Body: " .. name)
  if not ok then
    subtree:add(H.body_malformed, range)
    local why = type(fault) == "table" and fault.malformed or tostring(fault)
    subtree:add_proto_expert_info(E.malformed, "Malformed body: " .. why)
    info[#info + 1] = name .. " (malformed)"
    return
  end
  for _, key in ipairs({ "term", "index", "prev_index", "last_index", "match_index", "session", "sequence" }) do
    if type(ctx.values[key]) == "number" then name = name .. " " .. key .. "=" .. digits(ctx.values[key]) end
  end
  info[#info + 1] = name
end

function KINDS.body(ctx)
  dissect_body(ctx.reader, ctx.tree, ctx.info)
end

-- One frame; nil, or why a receiver drops the datagram.
local function dissect_frame(reader, root, pinfo, header, place, info)
  local begin = reader.at
  local tree = root:add(H.frame, reader.tvb(begin, 1))
  local frame, code
  local ok, fault = pcall(function()
    code = reader:take(1):uint()
    local length = reader:varint()
    if length > reader:left() then malformed("bytes end inside a frame") end
    local first = reader.at
    reader.at = first + length
    tree:set_len(reader.at - begin)
    frame = FRAMES[code]
    tree:add(H.frame_code, reader.tvb(begin, 1))
    if not frame then
      local how = code >= 0x80 and "ignorable" or "critical"
      local name = string.format("unknown-%s %02x", how, code)
      tree:add(H.frame_type, reader.tvb(begin, 1), name)
      if length > 0 then tree:add(H.frame_body, reader.tvb(first, length)) end
      tree:set_text("Frame: " .. name)
      info[#info + 1] = name
      return
    end
    tree:add(H.frame_type, reader.tvb(begin, 1), frame[1])
    if frame.class then tree:add(H.frame_class, reader.tvb(begin, 1), frame.class) end
    tree:set_text("Frame: " .. frame[1])
    local said = {}
    local inner = new_reader(reader.tvb, first, first + length)
    local ctx = { reader = inner, tree = tree, group = "frame.", values = {}, info = said }
    read(ctx, frame[2])
    if ctx.values.cluster then learn_cluster(ctx.values.cluster) end
    if ctx.values.call and (frame.is_request or frame.is_reply) then
      if not pinfo.visited then
        note_call(pinfo, header, frame, ctx.values, place)
        if ctx.part and raftgram.prefs.reassemble then collect(pinfo, header, frame, ctx, place) end
      end
      local note = (state.notes[pinfo.number] or {})[place]
      if note then show_call(ctx, pinfo, frame, note) end
      if note and note.again_of then said[#said + 1] = "[again]" end
      local whole = state.bodies[pinfo.number .. " " .. place]
      if whole then
        local tvb = whole:tvb("Body put together")
        dissect_body(new_reader(tvb, 0, tvb:len()), tree, said)
      end
    end
    if ctx.values.call then tree:append_text(" of call " .. digits(ctx.values.call)) end
    if ctx.values.packets then said[#said + 1] = ctx.values.packets end
    info[#info + 1] = (frame[1] .. " " .. table.concat(said, " ")):gsub(" $", "")
  end)
  if ok then return (not frame and code < 0x80) and "unknown_critical_frame" or nil end
  local why = type(fault) == "table" and fault.malformed or tostring(fault)
  tree:add(H.frame_malformed, reader.tvb(begin, reader.last - begin))
  tree:add_proto_expert_info(E.malformed, "Malformed frame: " .. why)
  info[#info + 1] = "malformed frame"
  return "malformed_frame"
end

local function dissect_frames(tvb, last, root, pinfo, header, info)
  local reader, drop, place = new_reader(tvb, HEADER_BYTES, last), nil, 0
  while reader:left() > 0 do
    local before = reader.at
    local why = dissect_frame(reader, root, pinfo, header, place, info)
    -- Malformed comes before unknown in the order of drops.
    if why == "malformed_frame" or not drop then drop = why or drop end
    if why == "malformed_frame" or reader.at == before then break end
    place = place + 1
  end
  return drop
end

local function dissect_header(tvb, root)
  local head = {
    source = tvb(12, 2):uint(), destination = tvb(14, 2):uint(), source_incarnation = tvb(16, 4):uint(),
    destination_incarnation = tvb(20, 4):uint(), tag = tvb(8, 4):uint(), flags = tvb(3, 1):uint(),
    packet = tostring(tvb(24, 8):uint64()), version = tvb(2, 1):uint(),
  }
  head.is_sealed = band(head.flags, 1) == 1
  root:add(H.version, tvb(2, 1))
  local flags = root:add(H.flags, tvb(3, 1))
  for _, flag in ipairs(FLAGS) do flags:add(H["flag_" .. flag[2]], tvb(3, 1)) end
  head.crc_item = root:add(head.is_sealed and H.seal_id or H.crc, tvb(4, 4))
  root:add(H.tag, tvb(8, 4))
  root:add(H.source, tvb(12, 2), node_name(head.source))
  root:add(H.destination, tvb(14, 2), node_name(head.destination))
  root:add(H.source_incarnation, tvb(16, 4))
  root:add(H.destination_incarnation, tvb(20, 4))
  root:add(H.packet, tvb(24, 8), tvb(24, 8):uint64())
  return head
end

-- [W-4]: good, wrong or not to be judged. A drop reason if it is wrong.
local function check_crc(tvb, root, header)
  if header.is_sealed then
    root:add(H.crc_status, "sealed"):set_generated()
    return
  end
  local cluster = header.tag == 0 and ZERO_ID or state.clusters[header.tag]
  if not cluster then
    root:add(H.crc_status, "unverified: the cluster id is not known"):set_generated()
    return
  end
  local length = tvb:len()
  local bytes = tvb:raw(0, length)
  local size = string.char(math.floor(length / 16777216) % 256, math.floor(length / 65536) % 256,
    math.floor(length / 256) % 256, length % 256)
  local expected = crc_of({ cluster, bytes:sub(1, 4), bytes:sub(9), size })
  root:add(H.crc_expected, tvb(4, 4), expected):set_generated()
  local is_good = expected == tvb(4, 4):uint()
  root:add(H.crc_status, is_good and "good" or "wrong"):set_generated()
  if not is_good then
    header.crc_item:add_proto_expert_info(E.crc, string.format("Wrong CRC-32, should be 0x%08x", expected))
    return "crc_or_seal"
  end
end

local function dropped(root, pinfo, reason)
  if not reason then return end
  root:add(H.drop, reason):set_generated()
  root:add_proto_expert_info(E.drop, "A receiver drops this as " .. reason)
  pinfo.cols.info:append(" [dropped as " .. reason .. "]")
end

local function note_datagram(tvb, root, pinfo, header)
  if not pinfo.visited then
    state.notes[pinfo.number] = state.notes[pinfo.number] or {}
    local id = path_of(pinfo, header, false) .. " " .. header.packet
    state.notes[pinfo.number].copy_of = state.datagrams[id]
    state.datagrams[id] = state.datagrams[id] or pinfo.number
  end
  local copy_of = (state.notes[pinfo.number] or {}).copy_of
  if copy_of then
    root:add(H.copy_of, copy_of):set_generated()
    root:add_proto_expert_info(E.copy)
    pinfo.cols.info:append(" [copy]")
  end
end

function raftgram.dissector(tvb, pinfo, tree)
  pinfo.cols.protocol = "raftgram"
  local root = tree:add(raftgram, tvb())
  local length = tvb:len()
  pinfo.cols.info:set("raftgram")
  if length < HEADER_BYTES then return dropped(root, pinfo, "short") end
  if tvb(0, 2):uint() ~= 0xa752 then return dropped(root, pinfo, "magic") end
  if tvb(2, 1):uint() ~= 1 then
    root:add(H.version, tvb(2, 1))
    return dropped(root, pinfo, "version")
  end
  local header = dissect_header(tvb, root)
  pinfo.cols.info:set(node_name(header.source) .. " → " .. node_name(header.destination) .. " #" .. header.packet)
  note_datagram(tvb, root, pinfo, header)
  local drop
  if header.source == 0 or header.destination == 0 then
    drop = "destination"
  elseif state.only and header.tag ~= 0 and header.tag ~= state.only then
    drop = "cluster_tag"
  end
  local info, frames_drop, last = {}, nil, length
  local is_session = header.is_sealed and tvb(4, 1):uint() >= 0x80
  if is_session then
    root:add(H.sealed, tvb(HEADER_BYTES))
    info[1] = "sealed"
  else
    if header.is_sealed then last = math.max(length - 16, HEADER_BYTES) end
    frames_drop = dissect_frames(tvb, last, root, pinfo, header, info)
    if last < length then root:add(H.mac, tvb(last)) end
  end
  -- The frames come first: a hello-ack shows the id that its checksum needs.
  drop = check_crc(tvb, root, header) and (drop or "crc_or_seal") or drop
  local packet = tvb(24, 8):uint64()
  if not drop and (packet == UInt64.new(0, 0) or packet >= UInt64.new(0, 0x40000000)) then drop = "replay" end
  pinfo.cols.info:append(" " .. table.concat(info, ", "))
  dropped(root, pinfo, drop or frames_drop)
end

local function heuristic(tvb, pinfo, tree)
  if tvb:len() < HEADER_BYTES or tvb(0, 2):uint() ~= 0xa752 then return false end
  raftgram.dissector(tvb, pinfo, tree)
  return true
end

raftgram:register_heuristic("udp", heuristic)
DissectorTable.get("udp.port"):add_for_decode_as(raftgram)
