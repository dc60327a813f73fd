/* What a peer on a stream socket sends, in pieces of any size. */
#include "device-fuzz.h"

#include <sys/socket.h>
#include <unistd.h>

#include "devices/net/net.h"
#include "qmp/gen/types.h"

static GMainContext *context;
static unsigned n_received;
static uint64_t sum;

static bool fuzz_receive(void *opaque, unsigned pair, const uint8_t *data, size_t len)
{
    (void)opaque;
    g_assert(pair == 0);
    for (size_t i = 0; i < len; i++) { /* all of it is there */
        sum += data[i];
    }
    return ++n_received % 3 != 0;
}

static void fuzz_nothing(void *opaque)
{
    (void)opaque;
}

static const PtaNetFrontend front = { fuzz_receive, fuzz_nothing, fuzz_nothing };

/* Input: for each piece its length (1 byte), and whether there is room again (its highest bit). */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static FuzzMachine m;
    if (!context) {
        fuzz_machine_init(&m);
        context = m.host.io_context;
    }
    g_autofree char *path = g_strdup_printf("/tmp/partita-fuzz-%d", (int)getpid());
    NetUnixAddress un = { .path = path };
    NetAddress addr = { .type = NET_ADDRESS_TYPE_UNIX, .unix_ = &un };
    NetStreamConfig stream = { .addr = &addr, .server = true };
    NetConfig config = { .type = NET_CONFIG_TYPE_STREAM, .stream = &stream };
    PtaNetParams params = { "net0", context, "/", NULL, NULL };
    PtaNet *net = pta_net_new(&config, &params, NULL);
    g_assert(net != NULL);
    pta_net_attach(net, &front, NULL);
    struct sockaddr_un {
        sa_family_t family;
        char path[108];
    } sa = { .family = AF_UNIX };
    g_strlcpy(sa.path, path, sizeof(sa.path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int failed = connect(fd, (struct sockaddr *)(void *)&sa, sizeof(sa));
    g_assert(!failed);
    FuzzInput in = { data, size };
    while (in.size > 0) {
        uint8_t head = (uint8_t)fuzz_take(&in, 1);
        size_t n = MIN((size_t)(head & 0x7f), in.size);
        if (n > 0 && send(fd, in.data, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            break;
        }
        in.data += n;
        in.size -= n;
        if (head & 0x80) {
            pta_net_ready(net, 0);
        }
        fuzz_run(&m);
    }
    close(fd);
    fuzz_run(&m);
    pta_net_free(net);
    return 0;
}
