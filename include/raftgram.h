// raftgram: Raft over datagrams, for C. Made from the comments of tools/capi/src; docs/c.md is the guide.
//
// Every function may be called from any thread, and none lets a panic out. A function that can fail says so by a
// raftgram_status and leaves a text for raftgram_last_error. Times are milliseconds.

#ifndef RAFTGRAM_H
#define RAFTGRAM_H

#include <stddef.h>
#include <stdint.h>

// What a function came to. Anything but `RAFTGRAM_STATUS_OK` leaves a text for `raftgram_last_error`.
typedef enum raftgram_status {
  // It was done.
  RAFTGRAM_STATUS_OK = 0,
  // An argument cannot be used; nothing was done.
  RAFTGRAM_STATUS_INVALID = 1,
  // The node was stopped, or has ended by itself.
  RAFTGRAM_STATUS_STOPPED = 2,
  // The time is over; what was asked for has had no effect.
  RAFTGRAM_STATUS_TIMED_OUT = 3,
  // The time is over, or the session was lost, and a command may have been carried out or may yet be.
  RAFTGRAM_STATUS_OUTCOME_UNKNOWN = 4,
  // Too much is under way; nothing was done. Try again later.
  RAFTGRAM_STATUS_BUSY = 5,
  // The cluster refuses it, and the text says why; nothing was done.
  RAFTGRAM_STATUS_REFUSED = 6,
  // The system refused: a socket, a folder, a thread or an address.
  RAFTGRAM_STATUS_SYSTEM = 7,
  // A callback failed. Its node has ended, as a node ends whose state can no longer be trusted.
  RAFTGRAM_STATUS_MACHINE_FAILED = 8,
  // The caller is a callback of a node, and the node would wait for itself.
  RAFTGRAM_STATUS_WOULD_DEADLOCK = 9,
  // A fault of the library: it panicked. The handle is of no more use than to be freed.
  RAFTGRAM_STATUS_PANICKED = 10,
} raftgram_status;

// How fresh the answer to a query must be.
typedef enum raftgram_read_level {
  // It shows every command that was answered before.
  RAFTGRAM_READ_LEVEL_LINEARIZABLE = 0,
  // The same, resting on bounded clock drift, where the nodes allow it.
  RAFTGRAM_READ_LEVEL_LEASE = 1,
  // Whatever the node that is asked has applied.
  RAFTGRAM_READ_LEVEL_LOCAL = 2,
  // As fresh as `LINEARIZABLE`, from whichever node is asked.
  RAFTGRAM_READ_LEVEL_ANY_NODE = 3,
} raftgram_read_level;

// What a node does with a data folder that belongs to no cluster yet.
typedef enum raftgram_if_blank {
  // It does not start: a folder that should hold data and does not is a loss to be noticed.
  RAFTGRAM_IF_BLANK_REFUSE = 0,
  // It founds a cluster together with all other voters.
  RAFTGRAM_IF_BLANK_BOOTSTRAP = 1,
  // It joins the cluster that answers at any of the voters' addresses.
  RAFTGRAM_IF_BLANK_JOIN = 2,
} raftgram_if_blank;

// A client of a cluster: it finds the leader, asks again when the network loses, and has every command carried out at
// most once. Its functions may be called from any thread, and at the same time, but for `raftgram_client_free`, which
// must be the last.
typedef struct raftgram_client raftgram_client;

// A running node. Its functions may be called from any thread, and at the same time, but for
// `raftgram_node_free`, which must be the last.
typedef struct raftgram_node raftgram_node;

// Where a callback puts its bytes. It belongs to the library and is valid during that call only.
typedef struct raftgram_writer raftgram_writer;

// Bytes that the library made for the caller, who gives them back with `raftgram_buffer_free`. A NUL byte follows
// them that `length` does not count, so that text can be used as a C string.
//
// Functions that fill a buffer expect one that holds nothing: `{NULL, 0}` or one that was freed. After a failure it
// holds nothing.
typedef struct raftgram_buffer {
  // The bytes; NULL when there is nothing to free.
  uint8_t *data;
  // How many they are.
  size_t length;
} raftgram_buffer;

// How a node is started. Set all of it to zero, then `size` and what is wanted. Texts are UTF-8 and are copied.
typedef struct raftgram_node_options {
  // `sizeof(raftgram_node_options)`: a library that is newer than the program then knows which fields there are.
  size_t size;
  // The node's number, 1 to 65,534.
  uint16_t id;
  // 1: writes are not synced to the disk. A power cut may then lose what was acknowledged.
  uint8_t no_fsync;
  // A `raftgram_if_blank`.
  uint32_t if_blank;
  // Where its socket is bound, and where it is reached: `10.0.0.1:7101`; a bare port means loopback.
  const char *listen;
  // The addresses of voters 1, 2, 3, … of a new cluster in order, or any nodes of one to join, by commas.
  const char *voters;
  // The data folder; made where it is missing and `if_blank` allows it.
  const char *data;
  // A file with the cluster's keys, of mode 0600; NULL for plain datagrams.
  const char *key_file;
  // The shortest election timeout, of which the heartbeat interval is a tenth; 0 for the one of a local network.
  uint32_t election_timeout_ms;
} raftgram_node_options;

// A replicated state machine: the same commands in the same order must give the same results and the same state on
// every node, so a callback must read no clock, no random numbers and nothing else outside its state.
//
// Each callback returns 0, or another number when the state can no longer be trusted: the node then ends, and says
// `RAFTGRAM_STATUS_MACHINE_FAILED` with the callback and the number. What is wrong with a *command* belongs into its
// result instead. Callbacks run one at a time on a thread of the node's and must not wait for the node; they must not
// unwind (throw) or jump out. Bytes that they are given are valid during the call only.
typedef struct raftgram_machine {
  // Handed to each callback. It must stay valid until the node was stopped or freed.
  void *context;
  // Carries out a committed command, once and in log order; what it writes is the result. `index` is the entry's.
  int (*apply)(void *context,
               uint64_t index,
               const uint8_t *command,
               size_t length,
               struct raftgram_writer *result);
  // Answers a query without changing anything; what it writes is the answer.
  int (*query)(void *context, const uint8_t *query, size_t length, struct raftgram_writer *answer);
  // Writes the whole state, for a snapshot; equal states must give equal bytes. The node serves nobody meanwhile.
  int (*freeze)(void *context, struct raftgram_writer *state);
  // Takes a state that `freeze` wrote in place of the present one. No bytes at all mean the empty state.
  int (*restore)(void *context, const uint8_t *state, size_t length);
} raftgram_machine;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the library, as `0.1.0`. The text is static. Any thread.
const char *raftgram_version(void);

// Frees what a function put into the buffer, and makes it hold nothing. A buffer that holds nothing, and NULL, are
// left as they are. Any thread.
//
// # Safety
// `buffer` is NULL, or points to a buffer that a function of this library filled or that is `{NULL, 0}`.
void raftgram_buffer_free(struct raftgram_buffer *buffer);

// Appends bytes to what a callback gives back: for `apply` and `query` the result, for `freeze` the state. It may be
// called any number of times, from the callback's thread. The bytes are copied.
//
// # Safety
// `writer` is the one the running callback was given; `bytes` points to `length` readable bytes, or `length` is 0.
enum raftgram_status raftgram_write(struct raftgram_writer *writer,
                                    const uint8_t *bytes,
                                    size_t length);

// Puts a client of the cluster at `addresses` into `*client`: any of its nodes, by commas, a bare port for one of
// loopback. Nothing is asked of them yet, so that it succeeds where none answers. `key_file` names a file with a key
// of the cluster, of mode 0600; NULL for plain datagrams. `*client` is set to NULL when it fails. The caller frees
// it. Any thread.
//
// `INVALID`, or `SYSTEM` when an address, the file or a socket cannot be used.
//
// # Safety
// The texts are NULL or C strings; `client` is NULL or may be written.
enum raftgram_status raftgram_client_connect(const char *addresses,
                                             const char *key_file,
                                             struct raftgram_client **client);

// Has a command carried out, once, and puts its result into `result` and the index of its entry into `*index`; either
// may be NULL when it is not wanted. The command is copied. The caller frees the result. Any thread but a callback's.
//
// `TIMED_OUT` when it has certainly had no effect, `OUTCOME_UNKNOWN` when it may have; `BUSY`, `REFUSED`, `STOPPED`,
// `WOULD_DEADLOCK`, `INVALID`.
//
// # Safety
// `client` is NULL or a client that was not freed; `command` points to `length` readable bytes; `result` is NULL or an
// empty buffer; `index` is NULL or may be written.
enum raftgram_status raftgram_client_propose(const struct raftgram_client *client,
                                             const uint8_t *command,
                                             size_t length,
                                             uint32_t timeout_ms,
                                             struct raftgram_buffer *result,
                                             uint64_t *index);

// Asks the machine, and puts its answer into `result` and the index it was answered at into `*index`; either may be
// NULL when it is not wanted. `level` is a `raftgram_read_level`. The query is copied. The caller frees the answer.
// Any thread but a callback's.
//
// `TIMED_OUT`, `BUSY`, `REFUSED`, `STOPPED`, `WOULD_DEADLOCK`, `INVALID`.
//
// # Safety
// As for `raftgram_client_propose`.
enum raftgram_status raftgram_client_read(const struct raftgram_client *client,
                                          const uint8_t *query,
                                          size_t length,
                                          uint32_t level,
                                          uint32_t timeout_ms,
                                          struct raftgram_buffer *result,
                                          uint64_t *index);

// Frees the client. What is still waited for on other threads ends as `STOPPED`, but those threads must have left
// before: it must be the last call. NULL is left alone. Any thread but a callback's, where it does nothing but leave a
// text.
//
// # Safety
// `client` is NULL or a client that was not freed, and no other call uses it now or later.
void raftgram_client_free(struct raftgram_client *client);

// What this thread's last failed call had to say, as UTF-8 of one line, or NULL when none has failed. The text is
// the library's; it is valid until the next call on the same thread. Any thread.
const char *raftgram_last_error(void);

// Starts a node that drives `machine`, and puts its handle into `*node`. What can be refused is refused here;
// founding or joining goes on in the background. The options and the machine are copied; what the machine's context
// points to stays the caller's and must outlive the node. `*node` is set to NULL when it fails. Any thread.
//
// `INVALID`, or `SYSTEM` when the folder, the socket or an address cannot be used as asked.
//
// # Safety
// The pointers are NULL or point to what they say; texts are C strings; the machine's callbacks may be called with
// its context from another thread, one at a time, until the node was stopped or freed.
enum raftgram_status raftgram_node_start(const struct raftgram_node_options *options,
                                         const struct raftgram_machine *machine,
                                         struct raftgram_node **node);

// Puts a client of the node's cluster into `*client`, which asks this node first and has its keys. It belongs to the
// caller, who frees it, before or after the node. Any thread.
//
// `STOPPED`, `MACHINE_FAILED`, `SYSTEM` when no socket or thread is to be had.
//
// # Safety
// `node` is NULL or a node that was not freed; `client` is NULL or may be written.
enum raftgram_status raftgram_node_client(const struct raftgram_node *node,
                                          struct raftgram_client **client);

// Puts how the node is into `json`: one object with the names of `raftgram status --json` (`role`, `term`, `commit`,
// `applied`, `leader`, `voters`, …). The caller frees it. Any thread but a callback's.
//
// `STOPPED`, `MACHINE_FAILED`, `TIMED_OUT` while the node is being founded, `WOULD_DEADLOCK`.
//
// # Safety
// `node` is NULL or a node that was not freed; `json` is NULL or an empty buffer.
enum raftgram_status raftgram_node_status(const struct raftgram_node *node,
                                          uint32_t timeout_ms,
                                          struct raftgram_buffer *json);

// A descriptor that is readable while an event waits, for select, poll or epoll; -1 when `node` is NULL. It belongs to
// the node and is closed when that is freed; only `raftgram_node_next_event` may read from it. Any thread.
//
// # Safety
// `node` is NULL or a node that was not freed.
int raftgram_node_event_fd(const struct raftgram_node *node);

// Puts the next thing that happened to the node into `json`, waiting at most `timeout_ms` for it (0: not at all). Each
// is an object whose `event` says what it is: `role`, `peer-connected`, `snapshot-taken`, `snapshot-installed`,
// `disk-room`, `damaged`, `diverged`, `alarm`, …; `lost` when more than 1,024 waited; `ended` comes last. The caller
// frees it. Any thread but a callback's; also after the node was stopped, for what it had to say.
//
// `TIMED_OUT` when nothing happened, `STOPPED` behind `ended`, `WOULD_DEADLOCK`.
//
// # Safety
// `node` is NULL or a node that was not freed; `json` is NULL or an empty buffer.
enum raftgram_status raftgram_node_next_event(const struct raftgram_node *node,
                                              uint32_t timeout_ms,
                                              struct raftgram_buffer *json);

// Has the node hand its leadership to voter `to`, or to the fittest one when `to` is 0. It only asks: an event tells
// who leads then, and nothing happens on a node that does not lead. Any thread.
//
// `INVALID`, `STOPPED`, `MACHINE_FAILED`.
//
// # Safety
// `node` is NULL or a node that was not freed.
enum raftgram_status raftgram_node_transfer(const struct raftgram_node *node,
                                            uint16_t to);

// Stops the node: it hands leadership over, makes everything durable and ends, and no callback runs any more when the
// function comes back. The handle stays until it is freed. A second stop does nothing. Any thread but a callback's.
//
// `MACHINE_FAILED` or `SYSTEM` when the node had ended by itself, with the reason; `WOULD_DEADLOCK`.
//
// # Safety
// `node` is NULL or a node that was not freed.
enum raftgram_status raftgram_node_stop(const struct raftgram_node *node);

// Stops the node if need be, and frees the handle. NULL is left alone. Any thread but a callback's, where it does
// nothing but leave a text.
//
// # Safety
// `node` is NULL or a node that was not freed, and no other call uses it now or later.
void raftgram_node_free(struct raftgram_node *node);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RAFTGRAM_H */
