/* The subcommands of `partita`. Each gets its own words (argv[0] is its name) and returns the exit
 * status of the process. MAIN. */
#ifndef PTA_COMMANDS_H
#define PTA_COMMANDS_H

int pta_cmd_run(int argc, char **argv);
int pta_cmd_check(int argc, char **argv);
int pta_cmd_monitor(int argc, char **argv);
int pta_cmd_inspect(int argc, char **argv);

#endif
