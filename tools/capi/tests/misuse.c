// What a program can do wrong and the library can notice: each must come back as the status that the header says.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <raftgram.h>

enum { TIMEOUT_MS = 20000 };

#define EXPECT(expected, call)                                                                              \
    do {                                                                                                    \
        int got = (int)(call);                                                                              \
        if (got != (int)(expected)) {                                                                       \
            const char *text = raftgram_last_error();                                                       \
            fprintf(stderr, "%s:%d: %s is %d (%s), not " #expected "\n", __FILE__, __LINE__, #call, got,    \
                    text ? text : "no text");                                                               \
            exit(1);                                                                                        \
        }                                                                                                   \
    } while (0)

// The machine's state is what its callbacks shall do wrong.
typedef struct {
    int code;
    raftgram_node *node;
    raftgram_client *client;
    raftgram_status seen[3];
} state;

static int apply(void *context, uint64_t index, const uint8_t *command, size_t length, raftgram_writer *result) {
    state *it = context;
    (void)index;
    if (it->node != NULL) {
        raftgram_buffer json = {0};
        it->seen[0] = raftgram_node_stop(it->node);
        it->seen[1] = raftgram_node_status(it->node, 1, &json);
        it->seen[2] = raftgram_client_propose(it->client, command, length, 1, NULL, NULL);
        raftgram_node_free(it->node);
    }
    raftgram_write(result, command, length);
    return length == 1 && command[0] == 'f' ? it->code : 0;
}

static int query(void *context, const uint8_t *query, size_t length, raftgram_writer *answer) {
    (void)context;
    return (int)raftgram_write(answer, query, length);
}

static int freeze(void *context, raftgram_writer *to) {
    (void)context;
    (void)to;
    return 0;
}

static int restore(void *context, const uint8_t *from, size_t length) {
    (void)context;
    (void)from;
    (void)length;
    return 0;
}

int main(int count, char **arguments) {
    if (count != 3) {
        return 2;
    }
    state it = {.code = 7};
    raftgram_machine machine = {&it, apply, query, freeze, restore};
    raftgram_node_options options = {
        .size = sizeof options,
        .id = 1,
        .if_blank = RAFTGRAM_IF_BLANK_BOOTSTRAP,
        .listen = arguments[2],
        .voters = arguments[2],
        .data = arguments[1],
        .no_fsync = 1,
    };
    raftgram_node *node = NULL;
    raftgram_client *client = NULL;
    raftgram_buffer out = {0};
    uint64_t index = 0;

    // NULL, and arguments that mean nothing.
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_node_start(NULL, &machine, &node));
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_node_start(&options, NULL, &node));
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_node_start(&options, &machine, NULL));
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_node_client(NULL, &client));
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_node_status(NULL, 0, &out));
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_node_next_event(NULL, 0, &out));
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_node_transfer(NULL, 0));
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_node_stop(NULL));
    EXPECT(-1, raftgram_node_event_fd(NULL));
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_client_connect(NULL, NULL, &client));
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_client_connect("7101", NULL, NULL));
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_client_connect("\xff", NULL, &client));
    EXPECT(RAFTGRAM_STATUS_SYSTEM, raftgram_client_connect("no such address", NULL, &client));
    EXPECT(RAFTGRAM_STATUS_SYSTEM, raftgram_client_connect("7101", "no such file", &client));
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_client_propose(NULL, NULL, 0, 0, NULL, NULL));
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_write(NULL, NULL, 0));
    raftgram_node_free(NULL);
    raftgram_client_free(NULL);
    raftgram_buffer_free(NULL);
    machine.query = NULL;
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_node_start(&options, &machine, &node));
    machine.query = query;
    options.size = 1;
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_node_start(&options, &machine, &node));
    options.size = sizeof options;
    options.id = 0;
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_node_start(&options, &machine, &node));
    options.id = 1;
    options.if_blank = 9;
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_node_start(&options, &machine, &node));
    options.if_blank = RAFTGRAM_IF_BLANK_REFUSE;
    EXPECT(RAFTGRAM_STATUS_SYSTEM, raftgram_node_start(&options, &machine, &node));
    options.if_blank = RAFTGRAM_IF_BLANK_BOOTSTRAP;

    // A client whose nodes are not there ends by its deadline, and says that nothing happened.
    EXPECT(RAFTGRAM_STATUS_OK, raftgram_client_connect(arguments[2], NULL, &client));
    EXPECT(RAFTGRAM_STATUS_TIMED_OUT, raftgram_client_propose(client, NULL, 0, 200, &out, &index));
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_client_read(client, NULL, 0, 77, 200, &out, &index));
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_client_propose(client, NULL, 5, 200, &out, &index));
    raftgram_client_free(client);

    // A callback that waits for its own node.
    EXPECT(RAFTGRAM_STATUS_OK, raftgram_node_start(&options, &machine, &node));
    EXPECT(RAFTGRAM_STATUS_OK, raftgram_node_client(node, &client));
    it.client = client;
    it.node = node;
    EXPECT(RAFTGRAM_STATUS_OK, raftgram_client_propose(client, (const uint8_t *)"a", 1, TIMEOUT_MS, &out, &index));
    EXPECT('a', out.data[0]);
    raftgram_buffer_free(&out);
    for (int i = 0; i < 3; i++) {
        EXPECT(RAFTGRAM_STATUS_WOULD_DEADLOCK, it.seen[i]);
    }
    // Written before the next command is proposed, which the callback's thread gets by way of the library's locks.
    it.node = NULL;

    // A callback that fails: whoever waited is told, and the node says why it has ended.
    raftgram_client_propose(client, (const uint8_t *)"f", 1, 2000, NULL, NULL);
    for (;;) {
        raftgram_status status = raftgram_node_next_event(node, TIMEOUT_MS, &out);
        if (status != RAFTGRAM_STATUS_OK) {
            EXPECT(RAFTGRAM_STATUS_MACHINE_FAILED, status);
            break;
        }
        raftgram_buffer_free(&out);
    }
    EXPECT(0, strcmp(raftgram_last_error(), "the machine's apply callback returned 7"));
    EXPECT(RAFTGRAM_STATUS_MACHINE_FAILED, raftgram_node_status(node, TIMEOUT_MS, &out));
    EXPECT(RAFTGRAM_STATUS_MACHINE_FAILED, raftgram_node_stop(node));
    raftgram_client_free(client);
    raftgram_node_free(node);

    // The entry is in the log, so the node would fail again; a machine that does not starts well. Use after stop.
    it.code = 0;
    EXPECT(RAFTGRAM_STATUS_OK, raftgram_node_start(&options, &machine, &node));
    EXPECT(RAFTGRAM_STATUS_OK, raftgram_node_client(node, &client));
    EXPECT(RAFTGRAM_STATUS_OK, raftgram_client_read(client, (const uint8_t *)"q", 1, 0, TIMEOUT_MS, &out, &index));
    raftgram_buffer_free(&out);
    EXPECT(RAFTGRAM_STATUS_OK, raftgram_node_transfer(node, 0));
    EXPECT(RAFTGRAM_STATUS_INVALID, raftgram_node_transfer(node, 65535));
    EXPECT(RAFTGRAM_STATUS_OK, raftgram_node_stop(node));
    EXPECT(RAFTGRAM_STATUS_OK, raftgram_node_stop(node));
    EXPECT(RAFTGRAM_STATUS_STOPPED, raftgram_node_status(node, TIMEOUT_MS, &out));
    EXPECT(RAFTGRAM_STATUS_STOPPED, raftgram_node_transfer(node, 0));
    raftgram_client *other = NULL;
    EXPECT(RAFTGRAM_STATUS_STOPPED, raftgram_node_client(node, &other));
    EXPECT(RAFTGRAM_STATUS_TIMED_OUT, raftgram_client_read(client, (const uint8_t *)"q", 1, 0, 200, &out, &index));
    raftgram_node_free(node);
    raftgram_client_free(client);
    printf("all noticed by raftgram %s\n", raftgram_version());
    return 0;
}
