/* The command line of `partita`. Main thread only. */
#include "config.h"

#include "src/util/util.h"

int main(void)
{
    pta_thread_init_main();
    return 0;
}
