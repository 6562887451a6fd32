/* rhcctl completion: scripts made from the tables of commands and options. */
#include <string.h>

#include "ctl/ctl.h"

/* Where a name of an upstream is expected, the shell asks rhcctl itself. */
#define ASK_NAMES "rhcctl breaker --no-headers 2>/dev/null | cut -d' ' -f1"

static bool first_of_noun(unsigned i)
{
	return i == 0 || strcmp(ctl_commands[i - 1].noun, ctl_commands[i].noun) != 0;
}

static void each_noun(FILE *to, const char *before, const char *after)
{
	for (unsigned i = 0; i < ctl_commands_n; i++) {
		if (first_of_noun(i))
			fprintf(to, "%s%s%s", before, ctl_commands[i].noun, after);
	}
}

static void verbs_of(FILE *to, const char *noun)
{
	for (unsigned i = 0; i < ctl_commands_n; i++) {
		if (strcmp(ctl_commands[i].noun, noun) == 0 && ctl_commands[i].verb[0])
			fprintf(to, "%s ", ctl_commands[i].verb);
	}
}

/* "bash|zsh|fish" are words to choose from, "NAME" is not. */
static bool is_choice(const char *arg)
{
	return arg && strchr(arg, '|') && arg[0] >= 'a' && arg[0] <= 'z';
}

static void choices(FILE *to, const char *arg)
{
	for (; *arg; arg++)
		putc(*arg == '|' ? ' ' : *arg, to);
}

/* What may follow a noun: its verbs, words to choose from, names of upstreams. */
static void after_noun(FILE *to, unsigned i)
{
	const char *noun = ctl_commands[i].noun;
	bool names = false;

	verbs_of(to, noun);
	for (; i < ctl_commands_n && strcmp(ctl_commands[i].noun, noun) == 0; i++) {
		names = names || strstr(ctl_commands[i].args, "NAME");
		if (is_choice(ctl_commands[i].args))
			choices(to, ctl_commands[i].args);
	}
	if (names)
		fputs("$(" ASK_NAMES ")", to);
}

static void all_options(FILE *to)
{
	for (int i = 0; i < CTL_OPT_COUNT; i++)
		fprintf(to, "--%s ", ctl_options[i].name);
}

static void bash(FILE *to)
{
	fputs("# bash completion of rhcctl: rhcctl completion bash > /etc/bash_completion.d/rhcctl\n"
	      "_rhcctl() {\n"
	      "\tlocal word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words\n"
	      "\tcase $before in\n",
	      to);
	for (int i = 0; i < CTL_OPT_COUNT; i++) {
		const struct ctl_option *o = &ctl_options[i];

		if (!o->arg || o->arg[0] == '[')
			continue;
		fprintf(to, "\t--%s", o->name);
		if (o->letter)
			fprintf(to, " | -%c", o->letter);
		fputs(") words='", to);
		if (is_choice(o->arg))
			choices(to, o->arg);
		fputs("' ;;\n", to);
	}
	fputs("\trhcctl) words='", to);
	each_noun(to, "", " ");
	fputs("' ;;\n\t*)\n\t\tcase ${COMP_WORDS[1]} in\n", to);
	for (unsigned i = 0; i < ctl_commands_n; i++) {
		if (!first_of_noun(i))
			continue;
		fprintf(to, "\t\t%s", ctl_commands[i].noun);
		if (ctl_commands[i].alias)
			fprintf(to, " | %s", ctl_commands[i].alias);
		fputs(") words=\"", to);
		after_noun(to, i);
		fputs("\" ;;\n", to);
	}
	fputs("\t\tesac ;;\n\tesac\n\tcase $word in -*) words='", to);
	all_options(to);
	fputs("' ;; esac\n\tCOMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\ncomplete -F _rhcctl rhcctl\n", to);
}

/* Zsh runs completions of bash; this keeps one description. */
static void zsh(FILE *to)
{
	fputs("#compdef rhcctl\n"
	      "# zsh completion of rhcctl: rhcctl completion zsh > a file _rhcctl in a folder of $fpath\n"
	      "autoload -U +X bashcompinit && bashcompinit\n",
	      to);
	bash(to);
}

/* Single quotes are the only thing fish looks at within single quotes. */
static void fish_text(FILE *to, const char *text)
{
	putc('\'', to);
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			putc('\\', to);
		putc(*text, to);
	}
	putc('\'', to);
}

static void fish(FILE *to)
{
	fputs("# fish completion of rhcctl: rhcctl completion fish > ~/.config/fish/completions/rhcctl.fish\n"
	      "complete -c rhcctl -f\n",
	      to);
	for (unsigned i = 0; i < ctl_commands_n; i++) {
		const struct ctl_command *k = &ctl_commands[i];

		if (first_of_noun(i)) {
			fprintf(to, "complete -c rhcctl -n __fish_use_subcommand -a %s -d ", k->noun);
			fish_text(to, k->help);
			putc('\n', to);
		}
		if (k->verb[0]) {
			fprintf(to, "complete -c rhcctl -n '__fish_seen_subcommand_from %s' -a %s -d ", k->noun, k->verb);
			fish_text(to, k->help);
			putc('\n', to);
		}
		if (first_of_noun(i) && (strstr(k->args, "NAME") || is_choice(k->args))) {
			fprintf(to, "complete -c rhcctl -n '__fish_seen_subcommand_from %s' -a \"", k->noun);
			if (is_choice(k->args))
				choices(to, k->args);
			else
				fputs("(" ASK_NAMES ")", to);
			fputs("\"\n", to);
		}
	}
	for (int i = 0; i < CTL_OPT_COUNT; i++) {
		const struct ctl_option *o = &ctl_options[i];

		fprintf(to, "complete -c rhcctl -l %s", o->name);
		if (o->letter)
			fprintf(to, " -s %c", o->letter);
		if (o->arg && o->arg[0] != '[')
			fputs(" -r", to);
		if (is_choice(o->arg)) {
			fputs(" -a '", to);
			choices(to, o->arg);
			putc('\'', to);
		}
		fputs(" -d ", to);
		fish_text(to, o->help);
		putc('\n', to);
	}
}

enum ctl_exit cmd_completion(struct ctl *c)
{
	static const struct {
		const char *shell;
		void (*write)(FILE *to);
	} shells[] = { { "bash", bash }, { "zsh", zsh }, { "fish", fish } };

	for (unsigned i = 0; c->n_args == 1 && i < RHC_COUNT(shells); i++) {
		if (strcmp(c->args[0], shells[i].shell) != 0)
			continue;
		shells[i].write(c->out.to);
		return CTL_OK;
	}
	return ctl_fail(CTL_USAGE, "completion needs a shell: bash, zsh or fish");
}
