// Package spool is a durable, bounded, ordered store of opaque records in two
// classes, telemetry and events.
//
// # What it promises
//
//   - A record is durable when Append returns: written and synced, those of one call in one
//     sync. From then on it is offered by Next until it is acknowledged, or named in a gap;
//     there is no third way.
//   - While the disk fails, records are accepted and offered from memory, within a bound, and
//     written when it is back; see Trouble. What a crash takes from memory is named by the
//     next start, if the disk could be told that it was there.
//   - Positions (LSN, log sequence number) rise by one with each accepted record over
//     both classes and all starts, and are never given out twice. Within a stream,
//     seq = LSN - base, so that it counts from 1 without a hole.
//   - An acknowledgement may be forgotten in a crash (a record comes twice), never
//     invented.
//   - The files stay within the bound. The oldest telemetry goes first, events last,
//     and what goes is named in a gap that is durable before the record is removed.
//   - Damage costs the damaged records alone. They are named, and what is left of them is
//     set aside; wrong bytes are never returned.
//   - Memory does not grow with the backlog: a run of acknowledged records is one span,
//     and the indexes of a few segments are kept.
//
// It knows nothing of what the records mean, of streams but their names, or of MQTT.
//
// # Files
//
//	format          "telemetryd spool 1\n"
//	lock            process id of the owner; the lock itself is flock(2)
//	aside/          damaged pieces and refused records, for people: 32 files of 64 KiB at most
//	t-<lsn>.seg     telemetry, <lsn> = first LSN in 16 hex digits
//	e-<lsn>.seg     events
//	acks            what is acknowledged or named as lost: two slots
//	gaps            what is lost and not yet passed on: two slots
//
// # Segment
//
// 256 KiB, or larger for one large record. It is filled with zeros and synced, with its
// directory, before a record in it counts: writing later changes neither the size nor
// the allocation of the file, so that a sync costs the data and no journal entry. Up to two
// segments in which nothing waits are kept and written anew under another header and name:
// that saves the zeros, and goes on when the disk is full.
//
//	0        512                                          size-512    size
//	+--------+-------+-------+-------+--------------------+-----------+
//	| header | frame | frame | frame | zeros ...          | header    |
//	+--------+-------+-------+-------+--------------------+-----------+
//
//	header: "tlmd.seg"  u32 version  u32 size  u8 class  u8 len(stream)  6 x 0
//	        u64 first   u64 base     u64 epoch u64 fence u64 before
//	        stream id, 64 bytes ... u32 CRC32C of the bytes before, at 508
//
//	frame:  +------------+------------+----------+---------+
//	        | u32 length | u32 CRC32C | u64 LSN  | payload |
//	        +------------+------------+----------+---------+
//	        CRC over length, LSN and payload, begun with the header's CRC: a frame
//	        of another segment that lies here by chance does not hold.
//
// All numbers are little endian. After a frame that does not hold, the search goes on at
// every byte; only rising LSNs count.
//
// # Recovery
//
// Open reads the headers of all segments and the records of the newest ones, and nothing
// else; what is on disk alone decides. A torn last frame was never accepted: its LSN is
// given out again. To keep that LSN from coming back from the dead (a write that failed
// may reach the disk later), each start, and each failed write, begins an epoch: a number
// that rises, and the first LSN of that epoch (fence). A segment of an earlier epoch
// counts only up to the lowest fence of the later ones. Nothing is ever written into a
// segment after a failed write or sync, nor into one of an earlier start.
//
// An LSN that is neither settled (acknowledged or named) nor in either log was accepted
// and is gone: it becomes a gap when reading passes its place.
//
// # Slots
//
// acks and gaps are files with two slots that are written in turn, each with a
// generation and a checksum: the last good one is never overwritten. They have their
// full size from the start, so that acknowledging needs no space on a full disk. acks also
// tells the highest LSN used and the highest on disk: what the next start does not find was,
// up to the latter, damaged, and beyond it lost in the crash. It is written with an append
// when 50 s have passed, or else after a minute, or 1 s where there is much: that is how many
// records may come twice after a power cut.
//
// A segment is removed only when both slots of acks say that nothing in it waits, and
// never while it holds the highest LSN: the loss of one slot, or of the newest file, must
// not make a position come twice. Eviction keeps the same order: the gaps that name its
// records are synced, then both slots of acks, then the file is unlinked.
//
// # A disk that fails
//
// Records are given LSNs and wait in memory, 4 MiB at most; beyond that the oldest telemetry
// goes, named. On a full disk that is what lies there: its segment is written anew. The disk is
// tried again after 1 s, then ever more seldom, up to 30 s. It takes what was delivered
// meanwhile first, then the records that wait, in a new segment where a write or sync had
// failed. A directory that was away, or removed, is read as a start reads it: what is not there
// any more is named.
//
// # Limits
//
// Beyond 2048 gaps, neighbours of a stream are joined and name too much. When both slots
// of acks are lost, what is not there counts as delivered. After an unclean end, a damaged
// newest record that acks does not know of looks like a torn write and is not named.
package spool
