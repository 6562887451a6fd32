/*
 * tests/fuzz/replay.c - runs files and folders of inputs through a target, once each, without libFuzzer.
 *
 * Exit 0 when all of them ran; a demand that does not hold aborts.
 */
#include <dirent.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

enum { INPUT_MAX = 1 << 20 };

int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static unsigned ran;

static int run_file(const char *path)
{
	static uint8_t bytes[INPUT_MAX];
	FILE          *f = fopen(path, "rb");
	uint8_t       *exact;
	size_t         n;

	if (!f) {
		perror(path);
		return 1;
	}
	n = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	exact = fuzz_copy(bytes, n);
	LLVMFuzzerTestOneInput(exact, n);
	free(exact);
	ran++;
	return 0;
}

static int run_folder(const char *path)
{
	char           name[4096];
	struct dirent *e;
	DIR           *d = opendir(path);
	int            wrong = d == NULL;

	while (d && (e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		wrong |= run_file(name);
	}
	if (d)
		closedir(d);
	return wrong;
}

int main(int argc, char **argv)
{
	int wrong = 0;

	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
			wrong |= run_folder(argv[i]);
		else
			wrong |= run_file(argv[i]);
	}
	printf("%u inputs\n", ran);
	return wrong || ran == 0;
}
