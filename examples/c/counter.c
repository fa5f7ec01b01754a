// Three nodes in one process count together: each holds a number, and every command adds to it.
//
//     cc examples/c/counter.c $(pkg-config --cflags --libs raftgram) -o counter && ./counter DIR PORT
//
// Real nodes stand on hosts of their own, in processes of their own; each would be started as one is here.

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <raftgram.h>

enum { NODES = 3, TIMEOUT_MS = 20000 };

// The state. Callbacks of one node never run at the same time, so that it needs no lock.
typedef struct {
    int64_t total;
} counter;

static void show(const counter *state, raftgram_writer *out) {
    char text[32];
    int length = snprintf(text, sizeof text, "%" PRId64, state->total);
    raftgram_write(out, (const uint8_t *)text, (size_t)length);
}

// A command is a number in decimal; its result is the total. What is no number changes nothing, on every node alike.
static int apply(void *context, uint64_t index, const uint8_t *command, size_t length, raftgram_writer *result) {
    counter *state = context;
    char text[32] = {0};
    (void)index;
    if (length < sizeof text) {
        memcpy(text, command, length);
        state->total += strtoll(text, NULL, 10);
    }
    show(state, result);
    return 0;
}

static int query(void *context, const uint8_t *query, size_t length, raftgram_writer *answer) {
    (void)query;
    (void)length;
    show(context, answer);
    return 0;
}

static int freeze(void *context, raftgram_writer *state) {
    show(context, state);
    return 0;
}

static int restore(void *context, const uint8_t *state, size_t length) {
    char text[32] = {0};
    if (length >= sizeof text) {
        return 1;
    }
    if (length > 0) {
        memcpy(text, state, length);
    }
    ((counter *)context)->total = strtoll(text, NULL, 10);
    return 0;
}

// Ends the program with the library's words.
static void check(raftgram_status status, const char *what) {
    if (status != RAFTGRAM_STATUS_OK) {
        const char *text = raftgram_last_error();
        fprintf(stderr, "%s: %s (status %d)\n", what, text ? text : "no reason given", (int)status);
        exit(1);
    }
}

// Waits on the node's descriptor, as an event loop would, until it knows a leader.
static void await_leader(raftgram_node *node) {
    for (;;) {
        struct pollfd ready = {.fd = raftgram_node_event_fd(node), .events = POLLIN};
        if (poll(&ready, 1, TIMEOUT_MS) != 1) {
            fprintf(stderr, "no event within %d ms\n", TIMEOUT_MS);
            exit(1);
        }
        raftgram_buffer event = {0};
        check(raftgram_node_next_event(node, 0, &event), "next event");
        const char *text = (const char *)event.data;
        int found = strstr(text, "\"role\"") != NULL && strstr(text, "\"leader\":null") == NULL;
        raftgram_buffer_free(&event);
        if (found) {
            return;
        }
    }
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: %s DIR PORT\n", arguments[0]);
        return 2;
    }
    int port = atoi(arguments[2]);
    char voters[128];
    snprintf(voters, sizeof voters, "127.0.0.1:%d,127.0.0.1:%d,127.0.0.1:%d", port, port + 1, port + 2);

    counter states[NODES] = {{0}};
    raftgram_node *nodes[NODES];
    for (int i = 0; i < NODES; i++) {
        char listen[32], data[4096];
        snprintf(listen, sizeof listen, "127.0.0.1:%d", port + i);
        snprintf(data, sizeof data, "%s/%d", arguments[1], i + 1);
        raftgram_node_options options = {
            .size = sizeof options,
            .id = (uint16_t)(i + 1),
            .if_blank = RAFTGRAM_IF_BLANK_BOOTSTRAP,
            .listen = listen,
            .voters = voters,
            .data = data,
            .no_fsync = 1,
            .election_timeout_ms = 1000,
        };
        raftgram_machine machine = {&states[i], apply, query, freeze, restore};
        check(raftgram_node_start(&options, &machine, &nodes[i]), "start");
    }
    await_leader(nodes[0]);

    raftgram_client *client;
    check(raftgram_node_client(nodes[0], &client), "client");
    for (int i = 1; i <= 10; i++) {
        char command[16];
        int length = snprintf(command, sizeof command, "%d", i);
        raftgram_buffer total = {0};
        uint64_t index = 0;
        check(raftgram_client_propose(client, (const uint8_t *)command, (size_t)length, TIMEOUT_MS, &total, &index),
              "propose");
        printf("added %d: %s (entry %" PRIu64 ")\n", i, (const char *)total.data, index);
        raftgram_buffer_free(&total);
    }
    raftgram_buffer total = {0};
    check(raftgram_client_read(client, NULL, 0, RAFTGRAM_READ_LEVEL_ANY_NODE, TIMEOUT_MS, &total, NULL), "read");
    printf("total %s\n", (const char *)total.data);
    raftgram_buffer_free(&total);

    raftgram_buffer status = {0};
    check(raftgram_node_status(nodes[0], TIMEOUT_MS, &status), "status");
    printf("status of %zu bytes\n", status.length);
    raftgram_buffer_free(&status);

    raftgram_client_free(client);
    for (int i = 0; i < NODES; i++) {
        check(raftgram_node_stop(nodes[i]), "stop");
        raftgram_node_free(nodes[i]);
    }
    return 0;
}
