/* A qemu plug-in that counts how often each block of translated code ran.
 *
 *     qemu-aarch64 -plugin block_counter.so,out=FILE PROGRAM
 *
 * At the end FILE gets a line for each block: its address, its instructions, and its runs. The declarations are
 * those of qemu's qemu-plugin.h, which Debian does not package; versions 1 and 2 do not differ in them. It is
 * compiled with the one that qemu asks for as API_VERSION.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
typedef void (*translation_callback)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*execution_callback)(unsigned, void *);
typedef void (*end_callback)(qemu_plugin_id_t, void *);

enum { WITHOUT_REGISTERS = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translation_callback);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, execution_callback, int, void *);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, end_callback, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

EXPORTED int qemu_plugin_version = API_VERSION;

struct block {
  uint64_t address, instructions, runs;
  struct block *next;
};

static struct block *blocks;

static void ran(unsigned processor, void *block) {
  (void)processor;
  ((struct block *)block)->runs++;
}

static void translated(qemu_plugin_id_t plugin, struct qemu_plugin_tb *code) {
  (void)plugin;
  struct block *block = calloc(1, sizeof *block);
  if (!block) abort();
  block->address = qemu_plugin_tb_vaddr(code);
  block->instructions = qemu_plugin_tb_n_insns(code);
  block->next = blocks;
  blocks = block;
  qemu_plugin_register_vcpu_tb_exec_cb(code, ran, WITHOUT_REGISTERS, block);
}

static void ended(qemu_plugin_id_t plugin, void *path) {
  (void)plugin;
  FILE *file = fopen(path, "w");
  if (!file) return;
  for (struct block *block = blocks; block; block = block->next)
    fprintf(file, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", block->address, block->instructions, block->runs);
  fclose(file);
}

EXPORTED int qemu_plugin_install(qemu_plugin_id_t plugin, const void *info, int count, char **options) {
  (void)info;
  if (count != 1 || strncmp(options[0], "out=", 4)) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(plugin, translated);
  qemu_plugin_register_atexit_cb(plugin, ended, strdup(options[0] + 4));
  return 0;
}
