// A client of the key-value store: put, get and delete, in the bytes of wire-spec.md, section 12.
//
//     cc examples/c/kv.c $(pkg-config --cflags --libs raftgram) -o kv
//     ./kv 7101,7102,7103 put greeting hello && ./kv 7101 get greeting
//
// Exit codes are those of `raftgram kv`: 0, 1 failed, 2 usage, 3 no answer, 4 no such key.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <raftgram.h>

enum { TIMEOUT_MS = 20000 };

// A length as a QUIC varint, for lengths below 16,384.
static size_t put_length(uint8_t *out, size_t length) {
    if (length < 64) {
        out[0] = (uint8_t)length;
        return 1;
    }
    out[0] = (uint8_t)(0x40 | length >> 8);
    out[1] = (uint8_t)length;
    return 2;
}

static int fail(raftgram_status status) {
    const char *text = raftgram_last_error();
    fprintf(stderr, "error: %s\n", text ? text : "no reason given");
    switch (status) {
    case RAFTGRAM_STATUS_INVALID:
        return 2;
    case RAFTGRAM_STATUS_TIMED_OUT:
    case RAFTGRAM_STATUS_OUTCOME_UNKNOWN:
        return 3;
    default:
        return 1;
    }
}

// Prints the value that an answer to a get holds: 0 = missing, 1 = found with an index and the value.
static int show(const raftgram_buffer *answer) {
    if (answer->length == 0 || answer->data[0] != 1) {
        fprintf(stderr, "error: there is no such key\n");
        return 4;
    }
    // The index is a varint whose first two bits say how long it is.
    size_t start = 1 + ((size_t)1 << (answer->data[1] >> 6));
    printf("%.*s\n", (int)(answer->length - start), (const char *)answer->data + start);
    return 0;
}

static int run(raftgram_client *client, int count, char **words) {
    const char *verb = words[0], *key = words[1], *value = count > 2 ? words[2] : "";
    size_t key_length = strlen(key), value_length = strlen(value);
    uint8_t *body = malloc(3 + key_length + value_length);
    raftgram_buffer answer = {0};
    raftgram_status status;
    size_t length = 1;
    int code = 0;
    if (body == NULL || key_length > 4096) {
        free(body);
        return 2;
    }
    if (strcmp(verb, "put") == 0) {
        body[0] = 0;
        length += put_length(body + 1, key_length);
        memcpy(body + length, key, key_length);
        memcpy(body + length + key_length, value, value_length);
        length += key_length + value_length;
        status = raftgram_client_propose(client, body, length, TIMEOUT_MS, &answer, NULL);
    } else {
        // A get is the query 0, a delete the command 1; the key is the rest of both.
        int is_get = strcmp(verb, "get") == 0;
        body[0] = is_get ? 0 : 1;
        memcpy(body + 1, key, key_length);
        length += key_length;
        status = is_get ? raftgram_client_read(client, body, length, RAFTGRAM_READ_LEVEL_LINEARIZABLE, TIMEOUT_MS,
                                               &answer, NULL)
                        : raftgram_client_propose(client, body, length, TIMEOUT_MS, &answer, NULL);
        if (status == RAFTGRAM_STATUS_OK && is_get) {
            code = show(&answer);
        }
    }
    free(body);
    if (status != RAFTGRAM_STATUS_OK) {
        code = fail(status);
    }
    raftgram_buffer_free(&answer);
    return code;
}

int main(int count, char **arguments) {
    int is_put = count > 2 && strcmp(arguments[2], "put") == 0;
    int is_known = is_put || (count > 2 && (strcmp(arguments[2], "get") == 0 || strcmp(arguments[2], "delete") == 0));
    if (!is_known || count != (is_put ? 5 : 4)) {
        fprintf(stderr, "usage: %s NODES put KEY VALUE | get KEY | delete KEY\n", arguments[0]);
        return 2;
    }
    raftgram_client *client;
    raftgram_status status = raftgram_client_connect(arguments[1], NULL, &client);
    if (status != RAFTGRAM_STATUS_OK) {
        return fail(status);
    }
    int code = run(client, count - 2, arguments + 2);
    raftgram_client_free(client);
    return code;
}
