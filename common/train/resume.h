// resume.h
#pragma once
#include "common/train/flags.h"

// On --resume: takes the flags of the run in --out; those that would make it another run may not be given anew.
inline void resume_flags(Cli& cli, const TrainFlags& f) {
    std::string path = f.out + "/config.json";
    if (!exists(path))
        fail("--resume: expected %s, found no such file: nothing was started in %s yet", path.c_str(), f.out.c_str());
    Json saved = parse_json(read_file(path), path);
    const Json* flags = saved.find("flags");
    if (!flags) fail("%s: expected \"flags\", found none: not written by this program", path.c_str());
    if (const Json* program = saved.find("program"); program && program->s != cli.program)
        fail("--resume: expected a run of %s, found one of %s in %s: ./%s --resume --out %s", cli.program.c_str(),
             program->s.c_str(), path.c_str(), program->s.c_str(), f.out.c_str());
    std::string free = " out data resume retune steps epochs seeds patience eval-every eval-tokens log-every ";
    for (auto& [name, value] : flags->o) {
        const Flag* flag = cli.find(name);
        if (flag && flag->given && free.find(" " + name + " ") == std::string::npos &&
            dump_json(flag->json()) != dump_json(value))
            fail_usage(
                "--%s: the run in %s has %s, a resumed run keeps its flags (to go on differently: --init %s/last --out "
                "ANOTHER)",
                name.c_str(), f.out.c_str(), dump_json(value).c_str(), f.out.c_str());
    }
    const Json* steps = flags->find("steps");
    if (steps && cli.given("steps") && steps->i != f.steps)
        printf(
            "the run had %lld steps and now has %lld: from here on the learning rate follows a schedule of that "
            "length\n",
            (long long)steps->i, (long long)f.steps);
    Json rest = Json::make_object();
    for (auto& [name, value] : flags->o)
        if (name != "resume" && name != "retune" && name != "out") rest.set(name, value);
    cli.from_json(rest, path);
}

// Before anything else: takes the flags of a resumed run, and checks what every program needs. `files` have to be in
// --data; `scripts` make them of a public source and of the user's own data.
inline void prepare_flags(Cli& cli, TrainFlags& f, std::vector<const char*> files,
                          std::pair<const char*, const char*> scripts) {
    if (f.resume && f.out.empty()) fail_usage("--resume: expected --out DIR, the run to go on with");
    if (f.resume) resume_flags(cli, f);
    if (f.data.empty())
        fail_usage("--data DIR is missing: the folder with %s; %s --help says how to make one", files[0],
                   scripts.second);
    if (f.out.empty()) fail_usage("--out DIR is missing: where the run's checkpoints and metrics go");
    if (f.batch_tokens % 128)
        fail_usage("--batch-tokens: expected a multiple of 128, found %lld", (long long)f.batch_tokens);
    if (cli.given("steps") && cli.given("epochs"))
        fail_usage("--steps and --epochs both say how long to train: give one of them");
    if (cli.given("steps")) f.epochs = 0;  // also those of the run that is resumed
    for (const char* file : files)
        if (!exists(f.data + "/" + file))
            fail(
                "--data %s: expected %s there, found none: make it with %s --out %s, or of your own with %s FILE... "
                "--out %s",
                f.data.c_str(), file, scripts.first, f.data.c_str(), scripts.second, f.data.c_str());
    for (std::string* path : {&f.data, &f.init})  // for a --resume from elsewhere
        if (char* full = realpath(path->c_str(), nullptr)) {
            *path = full;
            free(full);
        }
}
