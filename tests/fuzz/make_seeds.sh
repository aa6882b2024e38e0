#!/bin/sh
# make_seeds.sh - the first files of tests/fuzz/corpus, from the small files of tests/data. What was found by fuzzing is
# added to the corpus by hand, under the name of what it is about.
set -eu
cd "$(dirname "$0")/../.."
c=tests/fuzz/corpus
take() { # target, files: those of at most 12 KB
    mkdir -p "$c/$1"
    t=$1
    shift
    for f in "$@"; do
        [ "$(wc -c < "$f")" -le 12288 ] && cp "$f" "$c/$t/$(echo "${f#tests/data/}" | tr / -)"
    done
    return 0
}
put() { # target, name: standard input
    mkdir -p "$c/$1"
    cat > "$c/$1/$2"
}
take hfconfig tests/data/hfconfig/llava-1.5-7b.json tests/data/hfconfig/llama-3.2-1b.json tests/data/hfconfig/qwen2-dynamic.json \
    tests/data/peer/stage2/config.json tests/data/hfconfig/llava-qwen2.json tests/data/hfconfig/llama-3.2-1b-saved5.json \
    tests/data/hfconfig/qwen2-vl-2b.json
take jsonc tests/data/hfconfig/smollm2-135m.json
printf '{"s": "a\\u0000b\\ud83d\\ude00\\n", "n": [0, -1.5e-7, 0.1, 1e400], // c\n"t": true, "o": {"": null}}' | put jsonc values
take processor tests/data/image/processor/*/preprocessor_config.json
cat configs/quickstart.json | put config quickstart
cat configs/emoji.json | put config emoji
printf '{"run":{"dir":"r"},"data":{"train":[{"path":"t"}]},"sweep":{"low_rank":[2],"recipe":[{"name":"a"},{"name":"b","set":["svd.refit=true","sweep.low_rank=[1,3]"]}]}}' | put config recipes
printf 'stage2.lr=1e-4\nsweep.low_rank=[64,32,16]\nrun.steps=["rank"]\nmodel.path=null\nsvd={"samples":3}\ndata.train[0].limit=7' | put set lines
take safetensors tests/data/safetensors/reference.safetensors
printf '\100\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}            abcd' | put safetensors one
printf '{"metadata": {"total_size": 6}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}' | put index two
printf '{"bos_token_id": 1, "eos_token_id": [2, 32000], "repetition_penalty": 1.1, "suppress_tokens": [5]}' | put generation list
take torch_model tests/data/weights/*/*.bin
take webp $(ls tests/data/image/*.webp | sed -n '1~3p')
take gif $(ls tests/data/image/*.gif | sed -n '1~3p')
take bmp $(ls tests/data/image/*.bmp | sed -n '1~3p')
take rank tests/data/h5/*.h5
take torch tests/data/torchfile/*.pth
take tokenizer tests/data/tokenizer/metaspace.json tests/data/tokenizer/byte_level.json
printf 'USER: <image>\nWhat is it? ASSISTANT: a caf\303\251</s>' | put tokens chat
printf '  x\t\r\n\360\237\230\200\342\226\201<s><unk>' | put tokens marks
printf '\001\001\015<image>\nWhat?\002\003red\001\004And?\002\004blue' | put template turns
printf '\202\000\011Be brief.\001\010<image>Q\002\003A\000b' | put template system
printf '[{"id":"a","image":"a.png","conversations":[{"from":"human","value":"<image>\\nWhat is it?"},{"from":"gpt","value":"red"}]},\n{"id":2,"conversations":[{"from":"system","value":"s"},{"from":"human","value":"Say one."},{"from":"gpt","value":"one"}]}]\n' | put dataset list
printf '{"id":"t","text":"plain"}\n{"text":"two"}\n' | put dataset lines
say() { # name, body: what a client sends to the server
    printf '%s' "$2" | put request "$1"
}
say text '{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"Q"},{"role":"assistant","content":"a"},{"role":"user","content":[{"type":"text","text":"R"}]}]}'
say picture '{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/gif;base64,'"$(base64 -w0 tests/data/image/offset_gray_clear.gif)"'","detail":"auto"}},{"type":"text","text":"What?"}]}]}'
say fields '{"messages":[{"role":"user","content":"Q"}],"max_tokens":5,"temperature":0.7,"top_p":0.9,"seed":3,"stop":["a","b"],"stream":true,"stream_options":{"include_usage":true}}'
say neutral '{"messages":[{"role":"user","content":"Q"}],"n":1,"logprobs":false,"tools":[],"response_format":{"type":"text"},"logit_bias":{},"user":"u","metadata":{"a":"b"},"stop":null}'
say path '{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///a.png"}}]}]}'
say host 'a.example:80'
say key 'Bearer 0123456789abcdef0123456789abcdef'
say type 'application/json; charset=utf-8'
take png tests/data/image/rgb8.png tests/data/image/palette4_trns.png tests/data/image/gray16_interlaced.png \
    tests/data/image/rgba16.png tests/data/image/exif6.png tests/data/image/gray1_trns.png
take jpeg tests/data/image/rgb420.jpg tests/data/image/progressive.jpg tests/data/image/cmyk.jpg tests/data/image/restart.jpg \
    tests/data/image/exif6.jpg tests/data/image/gray.jpg

# A ranking for the dims of weights.c, and a checkpoint with its items.
mkdir -p "$c/rank" "$c/checkpoint"
cat > build/seeds.c << 'END'
#include "model/files/rankfile.h"
#include "train/record/checkpoint.h"
#include <stdio.h>
int main(void)
{
    const struct rank_dims dims = {2, 2, 2, 8};
    const struct rankfile_info info = {"mkl", 3, 44};
    int32_t rank[16];
    double scores[16];
    float a[6] = {1, 2, 3, 4, 5, 6};
    int64_t b[3] = {7, 8, 9};
    const struct ckpt_item items[] = {{"a", CKPT_F32, 2, 3, a}, {"b", CKPT_I64, 1, 3, b}};
    struct err e = {{0}};
    for (int i = 0; i < 16; i++) {
        rank[i] = (i + i / 4) % 4;
        scores[i] = 1.0 / (1 + i);
    }
    if (rankfile_write("tests/fuzz/corpus/rank/scores.h5", &dims, rank, scores, &info, &e) &&
        rankfile_write("tests/fuzz/corpus/rank/bare.h5", &dims, rank, NULL, &info, &e) &&
        checkpoint_save("tests/fuzz/corpus/checkpoint/two.h5", items, 2, "{}", &e))
        return 0;
    printf("%s\n", e.msg);
    return 1;
}
END
cc -std=c17 -D_GNU_SOURCE -I. $(pkg-config --cflags hdf5) build/seeds.c build/libmha2mla.a -fopenmp \
    $(pkg-config --libs openblas lapacke libcjson libpng libjpeg zlib hdf5 libcrypto libpcre2-8 libutf8proc) -ldnnl -lm -o build/seeds
build/seeds
printf 'a\tb\n1\t"x\t""y""\nz"\r\n\n""\t"""q"\n' | put tsv quoted
printf 'Zm9vYg==' | put base64 padded
printf '%s\n' '{"id":"1","answer":" Yes","metric":"pope","answers":["yes"],"category":["a","b"],"image":"p"}' \
    '{"question_id":1000241,"text":"B. dog","metric":"mmbench","choices":["cat","dog",null],"answers":["B"],"group":1}' \
    '{"id":"g","response":"a","metric":"mme","answers":["no"],"group":"g"}' '{"answer":"x","expected":"x "}' | put answers lines
printf '%s\n' '{"id":"1","answer":"a","text":"b","metric":"anls","conversations":[{"from":"human","value":"Q"},{"from":"gpt","value":"a"}]}' |
    put answers questions
