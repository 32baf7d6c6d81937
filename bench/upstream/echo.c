/* The server behind every contender: answers a unary gRPC call with the message that it got.
 *
 * It is here to cost as little as possible, and the same for everybody. It never decodes a header block: whatever is
 * asked, the answer is ":status 200, content-type application/grpc", the message, and "grpc-status 0". An empty message
 * (a health check, which is how a registration finds out whether a server is well) is answered with UNIMPLEMENTED.
 *
 * HTTP/2 with prior knowledge; one thread, one epoll. Its own answers use the dynamic table as gRPC servers do, unless
 * the peer has none. What a benchmark does not need (CONTINUATION, messages above MESSAGE_MAX) ends the process with a
 * sentence, so that nothing is measured that did not work.
 *
 * Usage: echo [PORT]     prints the port that it listens on, of 127.0.0.1
 */

#define _GNU_SOURCE /* accept4 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
enum { END_STREAM = 0x1, ACK = 0x1, END_HEADERS = 0x4, PADDED = 0x8 };

#define FRAME_HEAD 9
#define FRAME_MAX 16384
#define MESSAGE_MAX 512
#define STREAMS 512 /* slots a connection; a power of two, above the concurrency that we allow */
#define CONCURRENT 256
#define CREDIT_AFTER 16384 /* bytes received before the connection window is refilled */

static const char PREFACE[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct stream {
    uint32_t id;
    uint32_t length;
    uint8_t message[MESSAGE_MAX];
};

struct connection {
    int fd;
    int waiting_to_write;
    uint8_t *in, *out;
    size_t in_length, in_capacity, out_length, out_start, out_capacity;
    size_t preface_left;
    int64_t send_window;
    uint32_t uncredited;
    int no_table;  /* the peer's decoder has no dynamic table */
    int told_table; /* and our size update was sent */
    int answered;  /* our first answer put its fields into the table */
    struct stream streams[STREAMS];
};

static void fail(const char *reason) {
    fprintf(stderr, "echo: %s\n", reason);
    exit(1);
}

static uint32_t read_u32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void *grown(void *buffer, size_t *capacity, size_t needed) {
    if (needed <= *capacity)
        return buffer;
    while (*capacity < needed)
        *capacity = *capacity ? *capacity * 2 : 65536;
    buffer = realloc(buffer, *capacity);
    if (!buffer)
        fail("out of memory");
    return buffer;
}

static void put(struct connection *c, const void *bytes, size_t length) {
    c->out = grown(c->out, &c->out_capacity, c->out_length + length);
    memcpy(c->out + c->out_length, bytes, length);
    c->out_length += length;
}

static void put_frame(struct connection *c, int type, int flags, uint32_t stream, const void *payload, size_t length) {
    uint8_t head[FRAME_HEAD] = {length >> 16, length >> 8, length, type, flags,
                                stream >> 24, stream >> 16, stream >> 8, stream};
    put(c, head, FRAME_HEAD);
    put(c, payload, length);
}

static void put_block(struct connection *c, int flags, uint32_t stream, const char *block, size_t length) {
    char whole[128];
    size_t start = 0;
    if (c->no_table && !c->told_table) {
        whole[start++] = 0x20; /* size update to 0: due in the first block (RFC 7541 section 4.2) */
        c->told_table = 1;
    }
    memcpy(whole + start, block, length);
    put_frame(c, HEADERS, flags | END_HEADERS, stream, whole, start + length);
}

#define BLOCK(c, flags, stream, text) put_block(c, flags, stream, text, sizeof(text) - 1)

static void answer(struct connection *c, struct stream *s) {
    static const uint8_t nothing[5];
    if (s->length == 0 || (s->length == sizeof nothing && !memcmp(s->message, nothing, sizeof nothing))) {
        BLOCK(c, END_STREAM, s->id, "\x88\x0f\x10\x10" "application/grpc" "\x00\x0bgrpc-status\x02" "12");
        s->id = 0;
        return;
    }
    c->send_window -= s->length;
    if (c->send_window < 0)
        fail("a contender does not open its connection window again");
    if (c->no_table)
        BLOCK(c, 0, s->id, "\x88\x0f\x10\x10" "application/grpc");
    else if (c->answered)
        BLOCK(c, 0, s->id, "\x88\xbf");
    else
        BLOCK(c, 0, s->id, "\x88\x5f\x10" "application/grpc");
    put_frame(c, DATA, 0, s->id, s->message, s->length);
    if (c->no_table)
        BLOCK(c, END_STREAM, s->id, "\x00\x0bgrpc-status\x01" "0");
    else if (c->answered)
        BLOCK(c, END_STREAM, s->id, "\xbe");
    else
        BLOCK(c, END_STREAM, s->id, "\x40\x0bgrpc-status\x01" "0");
    c->answered = 1;
    s->id = 0;
}

static void on_settings(struct connection *c, const uint8_t *payload, uint32_t length) {
    for (uint32_t i = 0; i + 6 <= length; i += 6)
        if (payload[i] == 0 && payload[i + 1] == 1 && read_u32(payload + i + 2) < 4096)
            c->no_table = 1;
    put_frame(c, SETTINGS, ACK, 0, "", 0);
}

static void on_data(struct connection *c, struct stream *s, int flags, const uint8_t *payload, uint32_t length) {
    c->uncredited += length;
    if (c->uncredited >= CREDIT_AFTER) {
        uint8_t credit[4] = {c->uncredited >> 24, c->uncredited >> 16, c->uncredited >> 8, c->uncredited};
        put_frame(c, WINDOW_UPDATE, 0, 0, credit, sizeof credit);
        c->uncredited = 0;
    }
    if (flags & PADDED) {
        uint32_t padding = length ? payload[0] + 1 : 1;
        if (padding > length)
            fail("more padding than payload");
        length -= padding;
        payload++;
    }
    if (s->length + length > MESSAGE_MAX)
        fail("a message is larger than what a benchmark of calls needs");
    memcpy(s->message + s->length, payload, length);
    s->length += length;
    if (flags & END_STREAM)
        answer(c, s);
}

static void on_frame(struct connection *c, int type, int flags, uint32_t id, const uint8_t *payload, uint32_t length) {
    struct stream *s = &c->streams[(id >> 1) & (STREAMS - 1)];
    switch (type) {
    case HEADERS:
        if (!(flags & END_HEADERS))
            fail("a header block in several frames is more than this server understands");
        if (s->id == 0) {
            s->id = id;
            s->length = 0;
        } else if (s->id != id) {
            fail("two open streams share a slot");
        }
        if (flags & END_STREAM)
            answer(c, s);
        break;
    case DATA:
        if (s->id == id)
            on_data(c, s, flags, payload, length);
        break;
    case RST_STREAM:
        if (s->id == id)
            s->id = 0;
        break;
    case SETTINGS:
        if (!(flags & ACK))
            on_settings(c, payload, length);
        break;
    case PING:
        if (!(flags & ACK))
            put_frame(c, PING, ACK, 0, payload, length);
        break;
    case WINDOW_UPDATE:
        if (id == 0)
            c->send_window += read_u32(payload) & 0x7fffffff;
        break;
    case CONTINUATION:
        fail("a header block in several frames is more than this server understands");
    }
}

/* Takes whole frames off the input; false when the peer does not speak HTTP/2. */
static int consume(struct connection *c) {
    size_t at = 0;
    while (c->preface_left && at < c->in_length) {
        if (c->in[at] != (uint8_t)PREFACE[sizeof PREFACE - 1 - c->preface_left])
            return 0;
        at++;
        c->preface_left--;
    }
    while (c->in_length - at >= FRAME_HEAD) {
        const uint8_t *f = c->in + at;
        uint32_t length = (uint32_t)f[0] << 16 | (uint32_t)f[1] << 8 | f[2];
        if (length > FRAME_MAX)
            return 0;
        if (c->in_length - at < FRAME_HEAD + length)
            break;
        on_frame(c, f[3], f[4], read_u32(f + 5) & 0x7fffffff, f + FRAME_HEAD, length);
        at += FRAME_HEAD + length;
    }
    memmove(c->in, c->in + at, c->in_length - at);
    c->in_length -= at;
    return 1;
}

/* False when the connection is gone. */
static int flush(int poll, struct connection *c) {
    while (c->out_start < c->out_length) {
        ssize_t sent = write(c->fd, c->out + c->out_start, c->out_length - c->out_start);
        if (sent < 0) {
            if (errno != EAGAIN)
                return 0;
            break;
        }
        c->out_start += sent;
    }
    if (c->out_start == c->out_length)
        c->out_start = c->out_length = 0;
    int wait = c->out_length != 0;
    if (wait != c->waiting_to_write) {
        struct epoll_event event = {.events = EPOLLIN | (wait ? EPOLLOUT : 0), .data.ptr = c};
        epoll_ctl(poll, EPOLL_CTL_MOD, c->fd, &event);
        c->waiting_to_write = wait;
    }
    return 1;
}

static int serve(int poll, struct connection *c) {
    c->in = grown(c->in, &c->in_capacity, c->in_length + 65536);
    ssize_t got = read(c->fd, c->in + c->in_length, c->in_capacity - c->in_length);
    if (got == 0 || (got < 0 && errno != EAGAIN))
        return 0;
    if (got > 0) {
        c->in_length += got;
        if (!consume(c))
            return 0;
    }
    return flush(poll, c);
}

static void accept_one(int poll, int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *c = calloc(1, sizeof *c);
    if (!c)
        fail("out of memory");
    c->fd = fd;
    c->send_window = 65535;
    c->preface_left = sizeof PREFACE - 1;
    uint8_t settings[6] = {0, 3, 0, 0, CONCURRENT >> 8, CONCURRENT & 0xff};
    put_frame(c, SETTINGS, 0, 0, settings, sizeof settings);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
    flush(poll, c);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 0)};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1024))
        fail(strerror(errno));
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    int poll = epoll_create1(0);
    struct epoll_event events[256], event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) {
                accept_one(poll, listener);
            } else if (!serve(poll, c)) {
                close(c->fd);
                free(c->in);
                free(c->out);
                free(c);
            }
        }
    }
}
