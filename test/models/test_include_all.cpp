// test_include_all.cpp: the four programs do not get in each other's way: one translation unit can hold them all.
#include "finetune_cls.cu"
#include "sft.cu"
#include "train_bert.cu"
#include "train_gpt.cu"

#include <doctest/doctest.h>

TEST_CASE("programs: all of them in one translation unit, none with its main") {
    const std::set<const void*> commands = {
        (const void*)&train_bert, (const void*)&train_classifier, (const void*)&train_gpt, (const void*)&train_sft};
    CHECK(commands.size() == 4);
    CHECK(sizeof(BertTensors<real>) != sizeof(GptTensors<real>));
}
