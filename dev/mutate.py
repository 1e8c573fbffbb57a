#!/usr/bin/env python3
"""Breaks the code in one place at a time and looks whether a test notices.

    python3 dev/mutate.py              all mutations; prints a Markdown table (a copy of it is in test/README.md)
    python3 dev/mutate.py attention    those in whose file or text this regular expression is found, by the tests that are asked first for one of them

A mutation is a place in a file, marked by [[ ]] in a piece of text that occurs once, and what stands there instead. All
of them go into
one copy of the tree, each as (mutant == 17 ? wrong : right), so that the tests are built once; the environment variable
MUTANT says
which one is alive. The mutated places are expressions, therefore; whole statements are expressions of type void.
Only the code that the CPU runs is mutated: what stands before the kernels in common/*.cuh.
"""

import concurrent.futures
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
FLAGS = (
    "-x c++ -std=c++17 -O1 -march=native -fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math -freciprocal-math "
    "-fopenmp -DNO_MAIN -DDOCTEST_CONFIG_SUPER_FAST_ASSERTS"
).split()
TESTS = {
    "gradients": ["-DPRECISION_FP64"],
    "fixtures": ["-DPRECISION_FP64"],
    "ops": [],
    "classifier": [],
    "metrics": [],
    "labelled": [],
    "bin": [],
    "bpe": [],
    "gpt_gradients": ["-DPRECISION_FP64"],
    "gpt": [],
    "sft": ["-DPRECISION_FP64"],
    "instruct": [],
}
G, F, O, C, M, L, B, E, A, D, S, I = TESTS
VOID = object()  # the statement is left away

# file, the test that is asked first, and: text with [[the place]], what stands there instead
MUTATIONS = [
    (file, marked, new, test)
    for file, test, places in [
        # byte-level BPE, and the merging of pairs that it shares with WordPiece
        (
            "common/text/bpe.h",
            E,
            [
                ("return (b >= 33 && b <= 126) || (b >= [[161]] && b <= 172)", "160"),
                ("if ([[joined == id_of.end()]])", "false && left"),
                ("if ([[find(left, right)]]) fail", "(const Merge*)nullptr"),
                ("return major == 'L' ? LETTER : [[major == 'N']] ? DIGIT", "c >= '0' && c <= '9'"),
                ("invalid += [[c < 0]];", "0"),
                ("if ([[(size_t)(end - p) >= n]] && memcmp(p, c, n) == 0) return n;", "(size_t)(end - p) > n"),
                ("if ([[*p == ' ' && next < end]])", "is_space((uint8_t)*p) && next < end"),
                ("if ([[after != WHITE]]) {", "after == LETTER"),
                ("last > start && ([[p < end || goes_on]])) p = last;", "p < end"),
                ("last > start && (p < end || goes_on)) [[p = last]];", VOID),
                ("invalid += split(text.substr(0, at), [[false]], word);", "true"),
                ("if ([[cache.serial != serial]]) cache.clear(serial);", "cache.serial == 0"),
                ("if ([[!m || m->rank != rank]]) continue;", "!m"),
                ("if (after[i] < (int32_t)n) { [[before[after[i]] = i]]; consider(i); }", VOID),
                ("if (before[i] >= 0) [[consider(before[i])]];", VOID),
                ("h = [[fnv1a(t.data(), n, fnv1a(&n, 4, h))]];", "fnv1a(&n, 4, h)"),
                ("h = [[fnv1a(&right, 4, fnv1a(&left, 4, h))]];", "h + left * right"),
                ('bool version = [[text.substr(0, 8) == "#version"]];', "true"),
                ('refuse_unless(all.find("normalizer"), all_path, "normalizer", [[false]], "none");', "true"),
                ("merge_pairs(words, b.tokens, [[size - 1]], join, progress);", "size"),
                ("b.add_bos = bos->kind == Json::boolean && [[bos->b]];", "true"),
                ('.set("add_bos_token", [[add_bos]])', "false"),
            ],
        ),
        (
            "common/text/wordpiece.h",
            E,
            [
                ("return xa != ya ? [[tokens[xa] < tokens[ya]]] : tokens[xb] < tokens[yb];", "xa < ya"),
                ("return xa != ya ? tokens[xa] < tokens[ya] : [[tokens[xb] < tokens[yb]]];", "tokens[xb] > tokens[yb]"),
                ("if ([[best.count < 2]]) continue;", "best.count < 1"),
                ("if (to > 0) { [[lose(piece[to - 1], a)]]; gain(piece[to - 1], ab); }", VOID),
            ],
        ),
        # embedding
        (
            "common/ops/embedding.cuh",
            G,
            [
                ("[[to[c] += (acc<T>)d[c]]];", VOID),
                ("+= [[partial[(size_t)slot * C + c]]];", "partial[(size_t)ids.multi_slot[u] * C + c]"),
                (
                    "[[slot < ids.multi_slot[u + 1]]]; slot++)\n            for (int c = 0; c < C; c++) to[c] +=",
                    "slot < ids.multi_slot[u + 1] - 1",
                ),
                ("if (slot >= 0) for (int c = 0; c < C; c++) [[to[c] = 0]];", VOID),
            ],
        ),
        ("common/ops/embedding.cuh", F, [("+ (tt ? (acc<T>)[[tt[c]]] : 0)", "tt[c] * 2")]),
        # layernorm
        (
            "common/ops/layernorm.cuh",
            G,
            [
                ("[[g_mean += g]];", VOID),
                ("[[gx_mean += g * xhat]];", VOID),
                ("dw[c] += [[(A)d[c] * xhat]];", "g * xhat"),
                ("db[c] += [[(A)d[c]]];", "g"),
                ("dx[c] = [[r]] * (g - g_mean", "A(1)"),
                ("dx[c] = r * (g - [[g_mean]] - xhat", "A(0)"),
                ("dx[c] = r * (g - g_mean - [[xhat * gx_mean]])", "A(0)"),
                ("dx[c] = r * (g - g_mean - [[xhat]] * gx_mean)", "xhat * A(1.001)"),
                ("+ (dres ? [[(A)dres[c]]] : 0);", "A(0)"),
                ("dy[c] = [[(A)dx[c] * keep(c)]];", "(A)dx[c]"),
                ("dy[c] = [[dx[c]]];", "T(0)"),
                ("[[dweight[c] += scratch[(size_t)k * 2 * C + c]]];", "dweight[c] = scratch[(size_t)k * 2 * C + c]"),
                ("dbias[c] += [[scratch[(size_t)k * 2 * C + C + c]]];", "scratch[C + c]"),
                ("for (int c = 0; c < 2 * C; c++) [[dw[c] = 0]];", VOID),
            ],
        ),
        # matmul
        (
            "common/ops/matmul.cuh",
            G,
            [
                ("T([[add ? 1 : 0]]), dinp", "0"),
                ("T([[add ? 1 : 0]]), dinp", "1"),
                ("d[i] = (acc<T>)d[i] * [[gelu_derivative<kind>((acc<T>)p[i])]];", "acc<T>(1)"),
                ("dout + o, OC, inp, C, acc<T>([[1]]), dweight", "0"),
                ("[[column_sum(dbias, dout, scratch, N, OC)]];", VOID),
                ("s[c] += [[(acc<T>)inp[(size_t)n * C + c]]];", "(acc<T>)inp[(size_t)n * C]"),
                ("n < N && [[n < (k + 1) * CHUNK_ROWS]]; n++", "n < (k + 1) * CHUNK_ROWS - 1"),
                ("sum[c] += [[scratch[(size_t)k * C + c]]];", "scratch[c]"),
                (
                    "int rows = std::min([[panel]], N - n);\n        gemm(false, false, rows, C, OC, dout + (size_t)n * OC, OC, weight, C, T(add",
                    "panel - 1",
                ),
            ],
        ),
        # gelu
        (
            "common/ops/gelu.cuh",
            G,
            [
                ("return normal_cdf(x) + [[x * A(0.39894228040143267794) * vec_exp(A(-0.5) * x * x)]];", "A(0)"),
                ("return [[normal_cdf(x)]] + x", "A(1)"),
                ("* (A(1) + A([[3 * 0.044715]]) * x * x)", "0.044715"),
                ("x * (A(1) - [[t * t]]) * du", "t"),
                ("dinp[i] = [[(acc<T>)dout[i]]] * gelu_derivative", "acc<T>(1)"),
            ],
        ),
        # gather and scatter
        (
            "common/ops/gather.cuh",
            G,
            [
                ("[[device_zero(dinp, (size_t)N * C * sizeof(T))]];", VOID),
                ("(dinp + (size_t)[[rows[m]]] * C), (const void*)(dout", "m"),
            ],
        ),
        # cross-entropy
        (
            "common/ops/crossentropy.cuh",
            G,
            [
                ("x[target] = (terms[target] / sum - [[1]]) * s;", "A(0.999)"),
                ("/ sum - 1) * [[s]];", "A(1)"),
                ("by = [[s / sum]];", "1 / sum"),
                ("for (int v = V; v < Vp; v++) [[x[v] = (A)0]];", VOID),
                ("if (backward) for (int v = 0; v < Vp; v++) [[x[v] = (A)0]];", VOID),
                ("for (int v = 0; [[v < V]]; v++) x[v] = terms[v]", "v < V - 1"),
            ],
        ),
        ("common/ops/crossentropy.cuh", O, [("v < target && first; v++) first = [[(A)x[v] < top]];", "true")]),
        (
            "common/ops/crossentropy.cuh",
            G,
            [
                ("weight = weights ? [[(A)weights[target]]] : (A)1;", "A(1)"),
                ("losses[m] = [[weight]] * (std::log", "A(1)"),
                ("A s = (A)scale[0] * [[weight]], by", "A(1)"),
            ],
        ),
        # tanh
        (
            "common/ops/tanh.cuh",
            G,
            [
                ("out[i] = vec_tanh([[(acc<T>)inp[i]]]);", "(acc<T>)inp[i] * acc<T>(0.999)"),
                ("* (A(1) - [[(A)out[i] * (A)out[i]]]);", "(A)out[i]"),
                ("dinp[i] = [[(A)dout[i]]] * (A(1)", "A(1)"),
            ],
        ),
        # attention
        (
            "common/ops/attention.cuh",
            G,
            [
                ("[[sum += (A)y[i] * (A)o[i]]];", VOID),
                ("y[j] = [[w * keep]];", "w"),
                ("z[j] = w * ([[z[j] * keep]] - del);", "z[j]"),
                ("z[j] = w * (z[j] * keep - [[del]]);", "A(0)"),
                ("z[j] = [[w]] * (z[j] - del);", "A(1)"),
                ("z[j] = w * (z[j] - [[del]]);", "A(0)"),
                ("for (int j = seen; j < cols; j++) [[y[j] = z[j] = 0]];", VOID),
                ("[[y[j] = w]];", VOID),
                ("cols, HS, rows, [[pd]], TK", "ds"),
                ("cols, HS, rows, [[ds]], TK", "pd"),
                ("rows, HS, cols, [[ds]], TK", "pd"),
                ("pd, TK, d + (size_t)[[i0]] * HS", "0"),
                ("HS, A([[1]]), dv", "0"),
                ("HS, A([[1]]), dk", "0"),
                ("[[y[C + i] = dk[(size_t)t * HS + i]]];", VOID),
                ("y[2 * C + i] = [[dv[(size_t)t * HS + i]]];", "dv[i]"),
                ("dv + (size_t)[[j0]] * HS, HS);", "0"),
                ("q + (size_t)[[i0]] * HS, HS, A(1), dk", "0"),
                ("k + (size_t)j0 * HS, HS, A([[1]]), dq", "0"),
                ("y[i] = dq[(size_t)t * HS + i] * [[scale]];", "A(1)"),
                ("DropoutRow drop(dropout, [[n]], NH, h);", "n - n0"),
                ("DropoutRow drop(dropout, n, NH, [[h]]);", "0"),
                ("keep = drop([[j0 + j]]);", "j"),
                ("sum[i] = sum[i] * [[keep]] + add;", "A(1)"),
                ("if (j0 > 0) for (int c = 0; c < HS; c++) o[(size_t)i * HS + c] *= [[keep]];", "A(1)"),
            ],
        ),
        # dropout
        (
            "common/ops/dropout.cuh",
            O,
            [
                ("o[c] = (acc<T>)x[c] * [[keep(c)]];", "acc<T>(1)"),
                ("[[d.at->token0 + token]]) *", "token"),
                ("mix64(d.at->seed, [[d.at->step]], d.site", "0"),
                ("d.at->step, [[d.site]], (", "0"),
                ("scale = [[1.0f / (1.0f - d.p)]];", "1.0f"),
                ("return (x ^ threshold >> 16) >= [[threshold]];", "threshold / 100 * 99"),
            ],
        ),
        ("common/ops/dropout.cuh", G, [("uint64_t token = [[d.rows ? d.rows[n] : n]];", "n")]),
        # norm and AdamW
        ("common/ops/adamw.cuh", F, [("sum += [[(double)grads[i] * (double)grads[i]]];", "fabs((double)grads[i])")]),
        (
            "common/ops/adamw.cuh",
            O,
            [
                ("(k + 1) * chunk < n ? [[(k + 1) * chunk]] : n;", "(k + 1) * chunk - 1"),
                ("if ([[!std::isfinite(sum)]] ||", "false"),
                ("|| [[!std::isfinite(stats->loss)]]) stats", "false"),
                ("if ([[stats->failed != 0]]) return", "false"),
            ],
        ),
        (
            "common/ops/adamw.cuh",
            F,
            [
                ("A g = grads[i] * [[scale]];", "A(1)"),
                ("m[i] = b1 * m[i] + [[one_b1]] * g;", "A(1)"),
                ("v[i] = b2 * v[i] + one_b2 * g * [[g]];", "A(1)"),
                ("w = w * [[shrink]] - lr", "A(1)"),
                ("lr * (m[i] * [[inv1]])", "A(1)"),
                ("std::sqrt(v[i] * [[inv2]])", "A(1)"),
                ("+ [[eps]]);", "A(0)"),
            ],
        ),
        ("common/ops/adamw.cuh", O, [("if (master) [[master[i] = w]];", VOID)]),
        (
            "common/train/train.h",
            F,
            [
                ("decays[b] = [[s.decay]] ?", "true"),
                ("1 - pow(f.beta1, [[(double)step + 1]])", "(double)step + 2"),
                ("1 - pow(f.beta2, [[(double)step + 1]])", "(double)step + 2"),
            ],
        ),
        (
            "common/train/train.h",
            O,
            [
                ("return f.lr * (double)([[step + 1]]) / (warmup + 1);", "step"),
                ("share = t <= from ? 1 : [[(1 - t) / (1 - from)]];", "1 - t"),
            ],
        ),
        # loader
        ("common/data/dataloader.h", G, [("bool several = [[end - i > EMBEDDING_RUN]];", "false")]),
        (
            "common/data/dataloader.h",
            O,
            [
                ("std::max(1, (int)[[lround(rate * (double)drawn.size())]])", "(rate * (double)drawn.size())"),
                ("std::max([[1]], (int)lround", "0"),
                ("if ([[u < 0.8]]) tokens[p] = mask;", "u < 0.9"),
                ("else if ([[u < 0.9]]) tokens", "u < 1"),
                ("tokens[p] = (int)below(mix64(key, 4, p), [[V]]);", "V / 2"),
                ("targets.push_back([[tokens[p]]]);\n            double u", "mask"),
                ("uint64_t key = mix64(seed, [[epoch]], q);", "0"),
                ("bool pair = [[(k + d) % 2]] &&", "k % 4 == 3"),
                ("types.push_back([[i >= cut]]);", "false"),
                ("else drawn.push_back({[[mix64(key, 2, p)]], p});", "(uint64_t)p"),
                ("drawn.push_back({[[drawn.back().first]], p});", "mix64(key, 2, p)"),
                ("if ([[kept > 0 && kept + (end - i) > (size_t)want]]) continue;", "false"),
                ("std::min([[begin(d, k + 1)]], file.length(d))", "begin(d, k + 1) - 1"),
                ("Permutation(n, [[mix64(seed, epoch)]])", "seed"),
            ],
        ),
        (
            "common/data/dataloader.h",
            F,
            [
                ("b.pos[n] = [[n - start[s]]];", "n"),
                ("rows.push_back((int)tokens.size() + [[positions[i]]])", "positions[i] - 1"),
            ],
        ),
        ("common/data/dataloader.h", C, [("for (int t : targets) sum += [[weights[t]]];", "1")]),
        # metrics
        (
            "common/eval/metrics.h",
            M,
            [
                ("n += [[at(i, k)]];", "at(k, i)"),
                ("(double)at(k, k) / (double)[[predicted(k)]] : 0", "gold(k)"),
                ("(double)at(k, k) / (double)[[gold(k)]] : 0", "predicted(k)"),
                ("return both ? [[2.0]] *", "1.0"),
                ("return sum / [[K]];", "(K - 1)"),
                ("pt += [[p * t]], pp", "p * p"),
                ("tt += [[t * t]];", "p * t"),
                ("(c * n - [[pt]]) / below", "0.0"),
                ("half = z * std::sqrt([[p * (1 - p) / n]] +", "p / n"),
                ("scale = 1 + [[z * z / n]];", "0.0"),
                ("(double)(x.size() - [[1]])", "0"),
                ("if ([[n < 6]] || differ < 4) return", "n < 2"),
                ("if (n < 6 || [[differ < 4]]) return", "differ < 1"),
                ("differ += [[a[i] != b[i]]];", "a[i] > 0"),
                ("std::erfc([[t * std::sqrt((double)n / v)]] / std::sqrt(2.0))", "z"),
                ("t * std::sqrt([[(double)n / v]]) / std::sqrt(2.0)", "1.0"),
            ],
        ),
        # the classifier
        (
            "finetune_cls.cu",
            C,
            [("return bert.drop(batch, [[3 * (int)bert.config.L + 1]]); }", "3 * (int)bert.config.L")],
        ),
        (
            "train_bert.cu",
            C,
            [
                ("site > 3 * (int)config.L - 2 ? [[batch.rows]] : nullptr", "nullptr"),
                ("site > 3 * (int)config.L - [[2]] ? batch.rows", "3"),
            ],
        ),
        (
            "train_bert.cu",
            F,
            [
                ("[[gather_rows(a.last_att, q.att, b.rows, M, C)]];", VOID),
                ("[[gather_rows(a.last_x, x, b.rows, M, C)]];", VOID),
            ],
        ),
        ("train_bert.cu", G, [("g.attb, a.dbranch, [[last ? a.last_att : q.att]]", "q.att")]),
        (
            "finetune_cls.cu",
            G,
            [
                ("b.inverse_targets, M, [[K]], Kp(), true, class_weights);", "Kp()"),
                ("Kp(), true, [[class_weights]]);", "nullptr"),
                ("if ([[bert.frozen >= bert.config.L]]) return;", "bert.frozen >= 0"),
            ],
        ),
        (
            "train_bert.cu",
            G,
            [("l >= std::max([[frozen]], 0); l--", "-1"), ("if ([[frozen >= 0]]) return;", "frozen > 0")],
        ),
        # its examples
        (
            "finetune_cls.cu",
            C,
            [
                ("[[nb >= na]] ? nb-- : na--", "nb > na"),
                ("room = T - ([[pair ? 3 : 2]]);", "3"),
                ("cut = [[true]]) nb", "false"),
                ("types.resize(tokens.size(), [[1]]);", "0"),
                ("label_id.push_back([[(int)k]]);", "(int)label_id.size()"),
                ("targets[0] = [[label(q)]];", "file.label(which[q])"),
                (
                    "cut += [[file.length(s) + (file.second(s) < file.length(s) ? 3 : 2) > T]];",
                    "file.length(s) + 2 > T",
                ),
                ("(double)rank[k]++ + [[0.5]]", "0.0"),
                ("/ (double)[[size[k]]], data", "n"),
                ("Permutation shuffled(n, [[mix64(seed, 0x5eed)]]);", "0"),
                ("dev_data.which.assign(order.begin(), order.begin() + [[n_dev]]);", "n_dev / 2"),
                ("train_data.which.assign(order.begin() + [[n_dev]], order.end());", "0"),
                ("for (double w : weights) if (w != 1) [[builder.weights = weights.data()]];", VOID),
                ("model.class_weights = [[builder.weights ? class_weights : nullptr]];", "nullptr"),
                ("(double)train_data.sequences() / ([[K * n[k]]]);", "n[k]"),
                ("cursor.next + [[(uint64_t)cf.batch]]); }", "1000"),
                ("return s.layer < [[cf.freeze]] ?", "cf.freeze - 1"),
                ("(double)([[model.bert.config.L - s.layer]])); }", "model.bert.config.L - 1 - s.layer"),
            ],
        ),
        # its answers
        (
            "finetune_cls.cu",
            C,
            [
                ("if (![[builder.fits(tokens.size(), 1)]]) flush();", "builder.fits(tokens.size() + 1, 1)"),
                ("[[model.bert.dropout = 0]];", VOID),
                ("[[model.bert.dropout = dropout]];", VOID),
                ("const real* x = [[&logits[(size_t)m * Kp]]];", "&logits[(size_t)m * K]"),
                ("p[k] = std::exp((double)x[k] - [[top]]);", "0.0"),
                ("confusion.add([[gold]], best);", "best"),
                ("std::max([[p[gold]]], 1e-300)", "p[best]"),
            ],
        ),
        ("common/base/vecmath.h", O, [("__builtin_fmaf(x, 1.44269504f, -n) + [[x * 1.925963033e-8f]]", "0")]),
        ("common/base/rng.h", O, [("} while ([[i >= n]]);", "i > n")]),
        # labelled texts
        (
            "common/text/labelled_rows.h",
            L,
            [
                ("bool breaks = [[c < 32]] ||", "c < 31"),
                ("(c >= 127 && [[c < 160]])", "c < 128"),
                ("if ([[number == 1]] && whole.substr(0, 3)", "number == 0"),
                ('[[lines.bad(1, "expected the column \\"" + name + "\\" once, found it twice")]];', VOID),
                ("if ([[n_fields != width]])", "n_fields < width"),
                ("size_t opened = [[lines.number]];", "lines.number + 1"),
                ("[[field += '\"']];", VOID),
                ("row.line = [[lines.number]];\n        split();", "lines.number + 1"),
                ("row.line = lines.number;\n        [[split()]];", VOID),
                ("[[row.text2.clear()]];\n        row.label.clear();", VOID),
                ("size_t empty = [[lines.number]];", "lines.number + 1"),
                ("row.pair = [[!blank(row.text2)]];", "!row.text2.empty()"),
                ("if ([[!value && needed]])", "false"),
            ],
        ),
        # examples in .bin files
        (
            "common/data/bin_file.h",
            B,
            [
                ("if ([[second > sequence_length()]] ||", "false"),
                ("if ([[(uint32_t)l >= known.size()]]) fail(", "(uint32_t)l > known.size()"),
                ("[[header.content = fnv1a(data, n, header.content)]];", VOID),
                ("[[round_up(header.tokens * header.token_bytes, 8)]] - header", "header.tokens * header.token_bytes"),
                ("if (text_at[0] != 0 || [[text_at[S] != header.text_bytes]])", "false"),
                ("if ([[text_at[s] > text_at[s + 1]]])", "false"),
                ("if ([[(uint32_t)label(s) >= labels.size()]])", "(uint32_t)label(s) > labels.size()"),
                ("if ([[second(s) > length(s)]])", "second(s) > length(s) + 1"),
                ("if ([[found.size() < least]] ||", "false"),
                ("behind_tokens = [[(behind_tokens + 7) / 8 * 8]];", "behind_tokens"),
            ],
        ),
        # the decoder: windows of text
        (
            "common/data/dataloader.h",
            D,
            [
                ("return [[n <= 1]] ? 0 : n <= (uint64_t)T", "n <= 0"),
                ("ceil_div(n, T) + [[1]];", "0"),
                ("head = [[draw_offsets]] ? 1 +", "false"),
                ("[[mix64(seed, epoch, d)]], T) : T;", "mix64(seed, d)"),
                ("tokens.push_back([[i == 0]] ? eot", "i == from"),
                ("targets.push_back([[i + 1 == n]] ? eot", "false"),
                ("if ([[data.tokens.empty()]]) continue;", "false"),
            ],
        ),
        # a few rows, and attention with a cache
        (
            "common/ops/matmul.cuh",
            D,
            [
                ("s[k] + (bias ? [[(A)bias[o + k]]] : A(0));", "A(0)"),
                ("weight + (size_t)[[std::min(o + k, OC - 1)]] * C;", "o"),
            ],
        ),
        (
            "common/ops/attention.cuh",
            D,
            [
                ("slots[s] * NH + h) * cache.context + [[t]]) * HS;", "0"),
                ("int n = [[pos[r] + 1]];", "pos[r]"),
                ("p[j] = s * [[scale]];", "A(1)"),
                ("[[memcpy((void*)(v + (size_t)(n - 1) * HS), (const void*)(q + 2 * C), HS * sizeof(T))]];", VOID),
                ("p[j] = vec_exp(p[j] - top);\n                [[sum += p[j]]];", VOID),
            ],
        ),
        # the table, dropout and generation
        (
            "train_gpt.cu",
            D,
            [
                ("c.init_std / [[sqrt(2.0 * (double)c.L)]];", "1"),
                ("site > 3 * (int)config.L - 2 ? [[batch.rows]] : nullptr", "nullptr"),
                ("host_index[m] = [[rows[first + m].slot]];", "m"),
                ("[[model->dropout = 0]];\n        real* out", VOID),
                ("for (Row& row : rows) [[row.pos++]];", VOID),
                ("if (row.done) [[free_slots.push_back(row.slot)]];", VOID),
                ("else if ([[row.pos == memory.context]])", "row.pos + 1 == memory.context"),
                ("V, [[row.prompt]], row.pos);", "r"),
                ("pick(x, [[words]] ?", "0"),
                ("row.prompt, [[row.pos]]);", "0"),
                ("exp((double)(room[i].first - top) / [[temperature]]);", "1.0"),
                ("n = kept, [[total = sum]];", VOID),
                ("l + 1 < c.L ? params.layer[l + 1].ln1w : [[params.lnfw]]", "params.layer[0].ln1w"),
            ],
        ),
        # rows of instructions: what is learned
        (
            "sft.cu",
            S,
            [
                ("tokens.assign(1, [[eot]]), types", "0"),
                ("for (size_t i = 0; [[i + 1 < n]]; i++) tokens", "i < n"),
                ("k < [[file.spans(s)]]; k++) {\n                auto", "1"),
                ("for (size_t i = begin; i < [[end]]; i++) positions", "end - 1"),
                ("for (size_t i = [[begin]]; i < end; i++) positions", "begin + 1"),
                ("i < end; i++) positions.push_back((int)[[i]]),", "i - 1"),
                (
                    "i < end; i++) positions.push_back((int)i), targets.push_back([[file.token(s, i)]]);",
                    "file.token(s, i - 1)",
                ),
                ("if ([[on_prompt]])\n", "true"),
                ("if ([[on_prompt]])\n", "false"),
                ("count += [[file.length(s) > T]];", "file.length(s) >= T"),
            ],
        ),
        (
            "common/data/dataloader.h",
            S,
            [
                (
                    "types.insert(types.end(), ty.begin(), ty.end());\n        [[start.push_back((int)tokens.size())]];",
                    VOID,
                ),
                ("b.pos[n] = [[n - start[s]]];", "n"),
            ],
        ),
        (
            "common/text/instruct_rows.h",
            I,
            [
                ("if ([[!piece.answer]]) continue;", "false"),
                ("[[out.ids.push_back(bpe.eot())]];", VOID),
                ("out.spans.push_back({(uint32_t)[[begin]],", "begin + 1"),
                ('pieces.push_back({([[space ? " " : ""]]) + turn.output', '""'),
                ("if (with_answer || [[i + 1 < row.turns.size()]])", "false"),
                ("bpe.encode(piece.text, out.ids, [[false]]);", "true"),
                ("t.shots = [[shots->i]];", "0"),
                ("Template::fill([[blank(e.input)]] ? Template::without_its_part", "false"),
                ("if ([[separator.size() == 2]]) begin =", "true"),
                ("if ([[separator.size() == 2]]) begin =", "false"),
                ('t.substr(0, at == 0 ? 0 : [[t.find_last_not_of(" \\t", at - 1) + 1]])', "at"),
                ("if ([[space[0] != space[1]]]) fail", "false"),
                ("if ([[before == t.npos && behind != t.npos]]) end +=", "false"),
                ("s.input = true, [[s.input_bytes = ends[good - 1]]];", VOID),
            ],
        ),
        (
            "common/data/bin_file.h",
            I,
            [('if ([[key != "shots"]] && key', "true"), ('&& [[key != "name"]]) texts.set(', "true")],
        ),
        # the mixture
        (
            "sft.cu",
            S,
            [
                ("counted = [[cap ? std::min(cap, have) : have]];", "have"),
                ('weights[t] * ([[how == "equal" ? 1.0 : (double)counted]]);', "(double)counted"),
                ("have == 0 ? 0 : [[weights[t]]] * (how", "1.0"),
                ("share[t] = [[have == 0]] ? 0", "false"),
                ("if (sum == 0) [[total = 0]];", VOID),
                ("[[std::sort(rest.begin(), rest.end())]];", VOID),
                ("taken < total; i++, taken++) [[take[rest[i].second]++]];", VOID),
                ("at = [[epoch * take[t]]] + (q", "0"),
                ("mix64(seed, t, [[at / n]]))", "0"),
                ("mix64([[seed]], t, at / n))", "0"),
                ("if (n == task || [[n == family]] || n == name)", "false"),
                ("if (n == task || n == family || [[n == name]])", "false"),
            ],
        ),
        # the task
        (
            "sft.cu",
            S,
            [
                ("same_question = [[hold_out(train_data, sf.holdout)]];", "0"),
                ("[[hold_out(*val_data, sf.holdout)]];", VOID),
                ("for (uint32_t s : data.rows[t]) [[asked.insert(prompt(s, data.file.spans(s) - 1))]];", VOID),
                ("asked.insert(prompt(s, [[data.file.spans(s) - 1]]));", "0"),
                ("if (asked.count(prompt(s, [[k]]))) return true;", "data.file.spans(s) - 1"),
                ("train_data.mix([[weights]], sf.mix", "std::vector<double>(weights.size(), 1.0)"),
                ("sf.mix, [[(uint64_t)sf.cap]]);", "0"),
                ("train_data.on_prompt = [[sf.on_prompt]];", "false"),
                ("cursor.next + [[(uint64_t)sf.batch]]); }", "1000"),
                ("if (named_in(tasks[t], item.substr(0, equal))) [[w[t] *= value]], found", VOID),
                ("if (!([[value >= 0]]) || !std::isfinite", "true"),
                ("|| [[!std::isfinite(value)]] ||", "false"),
                ("!end || [[*end]] || end ==", "false"),
            ],
        ),
        (
            "common/train/train.h",
            S,
            [
                ("[[task.model.dropout = 0]];", VOID),
                ("[[task.model.dropout = dropout]];", VOID),
                ("e.score = [[-e.loss]];", "e.loss"),
                ("fill_batch(task.builder, data, cursor, 0, true, [[sequences]]);", "data.sequences()"),
                ("([[tokens == 0]] || sum < (double)tokens); count++)", "true"),
            ],
        ),
        (
            "sft.cu",
            S,
            [
                ("if ([[answers]]) generator.plan(arena, model, (int)sf.batch", "true"),
                ("dump_json([[train_data.file.templ]], 2)", "Template::alpaca().json()"),
            ],
        ),
        # its answers
        (
            "sft.cu",
            S,
            [
                ("i < file.span(s, [[file.spans(s) - 1]]).begin; i++) ids", "0"),
                ("std::vector<int> ids{[[bpe.eot()]]};", "0"),
                ("std::min(generator.memory.context - [[1]], model.shape.N)", "0"),
                ("[[score[t].rows++]], score[t].too_long++;", "0"),
                ("if (most == 0 || [[list.size() <= (size_t)most]]) continue;", "true"),
                ("drawn.push_back([[list[order((uint64_t)i)]]]);", "list[i]"),
                ("exact += [[exact_match(answer, row.outputs, strict)]];", "answer == row.outputs[0]"),
                ("exact += exact_match(answer, row.outputs, [[strict]]);", "false"),
                ("return [[has_word(row.input, quoted(row.outputs[0]))]]; }", "!quoted(row.outputs[0]).empty()"),
                ("[[score[t].quotes += quotes_input(row)]];", VOID),
                ("rouge += [[rouge_l(answer, row.outputs)]];", "rouge_l(answer, row.outputs[0]).f"),
                ("quotes_of_input += [[has_word(row.input, quoted(answer))]];", "!quoted(answer).empty()"),
                ("(at == 0 || [[!letter(at - 1)]])", "true"),
                ("&& [[!letter(at + word.size())]])", "true"),
                ("for (int d = 0; d < draws && [[!copy]]; d++) {", "true"),
                ("const double share = [[(double)said / times]];", "1.0"),
                ("exact += [[share * one.exact]],", "share * one.rouge"),
                ("mix64(2, t, [[(uint64_t)d]])", "0"),
                ("if ([[found.first > most]]) most =", "found.first >= most"),
                ("std::string form = normal_form(o, [[set.strict]]);", "true"),
                ("forms[i].emplace([[form.empty() ? normal_form(o, true) : form]], o);", "form"),
                ("forms[i].emplace([[form.empty() ? normal_form(o, true) : form]], o);", "o"),
                ("= [[count[drawn(i) % 2][form]]]; rows", "count[i % 2][form]"),
                ("said[i][often[1 - [[drawn(i)]] % 2", "i"),
                ("score.with_options++, score.chance += [[1.0 / (double)row.options.size()]];", "0.5"),
                ("float dropout = model.dropout;\n            [[model.dropout = 0]];", VOID),
                ("[[model.dropout = dropout]];\n            std::vector<areal> losses", VOID),
                ("[[sums[first + k] -= (double)losses[m]]];", "sums[k] -= (double)losses[m]"),
                ("[[sums[first + k] -= (double)losses[m]]];", "sums[first + k] += (double)losses[m]"),
                ("false);\n            [[answer.push_back(bpe.eot())]];", VOID),
                ("positions.push_back((int)(prompt.size() - [[1]] + i));", "0"),
                ('bpe.encode(([[space ? " " : ""]]) + row.options[k]', '""'),
                ("if ([[ids.size() > (size_t)std::min<int64_t>(model.config.T, model.shape.N)]]) {", "false"),
                ("[[score.long_options++]];", VOID),
                ("flush([[first]]), first = k;", "0"),
                ("std::max<size_t>([[row.options[k].size()]], 1)", "1"),
                ("if (sums[k] > sums[by_sum]) [[by_sum = k]];", VOID),
                ("if ([[mean(k) > mean(by_mean)]]) by_mean", "sums[k] > sums[by_mean]"),
                ("score.by_sum += [[right(by_sum)]],", "by_sum == 0"),
                ('compare("exact_match", m.exact, [[b.exact]]), compare', "b.rouge"),
                ("SetMean b([[answerers[2]]].score[k]);\n                Json minus", "answerers[1]"),
                ("if ([[i.known]]) difference.set(", "true"),
                ("if (s.rows) exact.push_back([[s.exact_share()]])", "s.mean_rouge()"),
            ],
        ),
        # what it is asked
        (
            "sft.cu",
            S,
            [
                ("most = gpt.model.config.T - 1 - [[room]], shown", "0"),
                ("rendered.ids.insert(rendered.ids.begin(), [[gpt.bpe.eot()]]);", "0"),
                ("render_row(gpt.bpe, templ, row, [[(size_t)shown]], false", "0"),
                ("render_row(gpt.bpe, templ, row, (size_t)[[--shown]], false", "(shown = 0)"),
            ],
        ),
        # the backward passes: backward_statements() leaves away every statement of them in turn; here some are wrong in
        # a subtler way
        (
            "train_bert.cu",
            G,
            [
                ("drop(b, 3 * l + [[2]]));\n            matmul_backward_weight", "3"),
                ("drop(b, 3 * l + [[3]]));\n            if (recompute)", "2"),
                ("b.seq, NH, HS, false, drop(b, [[3 * l + 1]]));\n            // qkv", "3 * l + 2"),
                ("const real* x = [[l == 0 ? a.x0 : a.layer[l - 1].x2]];", "a.x0"),
                ("matmul_backward_input(a.dsum, dpre, p.fcw, R, C, FF, [[true]]);", "false"),
                ("matmul_backward_input(a.dx, dqkv, p.qkvw, N, C, 3 * C, [[true]]);", "false"),
                ("a.head_out + (size_t)[[m]] * C, a.head_scratch, rows", "0"),
                ("matmul_backward_input(a.dhead + (size_t)[[m]] * C", "0"),
                ("embedding_backward(grads.wpe, a.dx, [[b.by_pos]]", "b.by_type"),
            ],
        ),
        (
            "train_bert.cu",
            O,
            [
                ("if ([[recompute]]) gelu_forward", "false"),
                ("if ([[recompute]]) layernorm_forward", "false"),
                ("if ([[recompute && l > 0]])", "false"),
            ],
        ),
        (
            "train_gpt.cu",
            "gpt",
            [
                ("if ([[recompute]]) gelu_forward", "false"),
                ("if ([[recompute]]) layernorm_forward(q.ln2", "false"),
                ("if ([[recompute]]) layernorm_forward(q.ln1", "false"),
            ],
        ),
        (
            "train_gpt.cu",
            A,
            [
                ("a.scratch, M, C,\n                                    drop(b, [[3 * L]]));", "3 * L - 1"),
                ("a.scratch, R, C, drop(b, 3 * l + [[2]]));", "3"),
                ("b.seq, NH, HS, true, drop(b, [[3 * l + 1]]));\n            // qkv", "3 * l + 2"),
                ("a.scratch, N, C, drop(b, [[3 * l]]));", "3 * l + 3"),
                ("a.dln, [[dx]], q.sum", "(const real*)nullptr"),
                ("a.dln, [[dx]], q.x", "(const real*)nullptr"),
                ("[[last ? a.last_att : q.att]], a.scratch", "q.att"),
                ("[[dx = a.dx]];", VOID),
                ("grads.wte, (areal*)nullptr, a.logits, a.lnf + (size_t)[[m]] * C", "0"),
                ("matmul_backward_input(a.dlast + (size_t)[[m]] * C", "0"),
                ("embedding_backward(grads.wpe, a.dbranch, [[b.by_pos]]", "b.by_type"),
            ],
        ),
    ]
    for marked, new in places
]


def statements(file, first, behind, skip, test=G):
    """Every call between two pieces of the file's text, up to its ;"""
    text = open(os.path.join(TOP, file), encoding="utf8").read()
    calls = re.findall(r"^ +(\w+(?:<[\w:]+>)?\([^;{}]*\));$", text[text.index(first) : text.index(behind)], re.M)
    return [(file, f"[[{c}]];", VOID, test) for c in calls if not c.startswith(skip)]


def backward_statements():
    """The functions of the backward passes, and all that a classifier computes."""
    return (
        statements(
            "train_bert.cu",
            "    void forward_backward(const Batch& b, StepStats* stats) {\n        int M",
            "    // Work of one token, forward and backward",
            ("head_forward", "logits_forward", "encode_backward", "sum_losses", "crossentropy", "layernorm_forward"),
        )
        + statements(
            "finetune_cls.cu", "    real* forward(const Batch& b) {", "    // Work of so many tokens", "forward("
        )
        + statements(
            "train_gpt.cu",
            "    void forward_backward(const Batch& b, StepStats* stats) {",
            "    // Work of one token, forward and backward",
            ("decode", "logits_forward", "sum_losses", "crossentropy"),
            A,
        )
    )


def locate(file, text, marked):
    """Start and end of the marked place in the text of the file."""
    match = re.search(r"\[\[(.*)\]\]", marked, re.S)
    before, place, after = marked[: match.start()], match.group(1), marked[match.end() :]
    end = text.find("#ifdef WITH_KERNELS") if file.endswith(".cuh") else len(text)
    whole = before + place + after
    if text.count(whole, 0, end) != 1:
        sys.exit(f"{file}: expected once, found {text.count(whole, 0, end)} times: {whole}")
    start = text.index(whole) + len(before)
    return start, start + len(place), place


def apply(tree, mutations):
    places = {}
    for number, (file, marked, new, _) in enumerate(mutations, 1):
        text = open(os.path.join(tree, file), encoding="utf8").read()
        start, end, old = locate(file, text, marked)
        places.setdefault(file, {}).setdefault((start, end, old), []).append((number, new))
    for file, spans in places.items():
        path = os.path.join(tree, file)
        text = open(path, encoding="utf8").read()
        # outer places contain inner ones: replace from the back, inner first, by marks that are filled in at the end
        order = sorted(spans, key=lambda s: (s[0], -s[1]))

        def render(lo, hi, todo):
            out, at = "", lo
            while todo:
                start, end, old = todo[0]
                inner = [s for s in todo[1:] if s[0] < end]
                todo = todo[1 + len(inner) :]
                code = render(start, end, inner)
                for number, new in spans[(start, end, old)]:
                    if new is VOID:
                        code = f"(mutant == {number} ? (void)0 : (void)({code}))"
                    elif re.search(r"[^<>=!]=[^=]", old):  # an assignment
                        code = f"(mutant == {number} ? (void)({new}) : (void)({code}))"
                    else:
                        code = f"(mutant == {number} ? ({new}) : ({code}))"
                out += text[at:start] + code
                at = end
            return out + text[at:hi]

        with open(path, "w", encoding="utf8") as f:
            f.write(render(0, len(text), order))
    path = os.path.join(tree, "common/base/common.h")
    text = open(path, encoding="utf8").read()
    with open(path, "w", encoding="utf8") as f:
        f.write(
            text.replace(
                "#include <vector>\n",
                '#include <vector>\ninline const int mutant = getenv("MUTANT") ? atoi(getenv("MUTANT")) : 0;\n',
                1,
            )
        )


def main():
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in ("-h", "--help"):
        print(__doc__)
        return
    everything = MUTATIONS + backward_statements()
    mutations = [m for m in everything if re.search(word, m[0] + " " + m[1])]
    tests = [t for t in TESTS if any(m[3] == t for m in mutations)]
    with tempfile.TemporaryDirectory(prefix="mutate_") as tree:
        for part in ("common", "test"):
            shutil.copytree(os.path.join(TOP, part), os.path.join(tree, part))
        for program in ("train_bert.cu", "finetune_cls.cu", "train_gpt.cu", "sft.cu"):
            shutil.copy(os.path.join(TOP, program), tree)
        apply(tree, mutations)
        run = lambda command, **more: subprocess.run(command, cwd=tree, capture_output=True, text=True, **more)

        def build(name):
            done = run(
                [
                    "nice",
                    "-n",
                    "10",
                    "g++",
                    *FLAGS,
                    *TESTS[name],
                    f"test/test_{name}.cpp",
                    "test/main.cpp",
                    "common/base/files.cpp",
                    "-lopenblas",
                    "-lutf8proc",
                    "-o",
                    name,
                ]
            )
            if done.returncode:
                sys.exit(f"{name} does not build:\n{done.stderr[:4000]}")

        def caught_by(name, number):
            """The test case that fails, or None."""
            try:
                done = run(
                    ["nice", "-n", "10", f"./{name}", "--abort-after=1", "--no-colors"],
                    env={**os.environ, "MUTANT": str(number)},
                    timeout=300,
                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30)),
                )  # an endless loop may want all of it
            except subprocess.TimeoutExpired:
                return f"{name}: hangs"
            if done.returncode == 0:
                return None
            case = re.search(r"TEST CASE:  (.*)", done.stdout)
            return f"test_{name}: {case.group(1) if case else 'crashes'}"

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            list(pool.map(build, tests))
        for name in tests:
            if found := caught_by(name, 0):
                sys.exit(f"without a mutation there is a failure: {found}")

        def check(number):
            first = mutations[number - 1][3]
            for name in [first] + [t for t in tests if t != first]:
                if found := caught_by(name, number):
                    return found
            return "**survives**"

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            results = list(pool.map(check, range(1, len(mutations) + 1)))
    print("| file | in | instead of | stands | caught by |\n|---|---|---|---|---|")
    code = lambda s: "`" + re.sub(r"\s+", " ", s).replace("|", "\\|") + "`"
    for (file, marked, new, _), result in zip(mutations, results):
        old = re.search(r"\[\[(.*)\]\]", marked, re.S).group(1)
        around = re.sub(r"\s+", " ", re.sub(r"\[\[(.*)\]\]", "…", marked, flags=re.S)).strip()
        print(
            f"| {os.path.basename(file)} | {code(around) if len(around) > 3 else ''} | {code(old)} | {'nothing' if new is VOID else code(new)} | {result} |"
        )
    survivors = results.count("**survives**")
    print(f"\n{len(results) - survivors} of {len(results)} mutations are caught.")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
