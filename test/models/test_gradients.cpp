// test_gradients.cpp: every op, and the loss of the whole model, differentiated numerically in double and compared with
// its backward pass. Build with -DPRECISION_FP64.
//
// An op's loss is Σ w · out with random w, so that dout = w. Gradients that are `+=` start from random numbers, those
// that are `=` from NaN: an op that confuses the two fails.
#include "finetune_cls.cu"

#include "common/ops/lora.cuh"

#include "common/ops/glu.cuh"
#include "common/ops/layernorm.cuh"
#include "common/ops/rope.cuh"
#include "test/models/check_gradient.h"
#include "test/models/small_bert.h"
#include "test/models/small_classifier.h"

TEST_SUITE("gradients of ops") {
    TEST_CASE("embedding") {
        // ids once, exactly 64, 65, 128 and more than 128 times: one run, and several in the second pass
        const int V = 9, T = 5, C = 3;
        BatchBuilder builder;
        builder.shape.N = 500;
        builder.shape.M = 1;
        std::vector<int> ids;
        for (auto [id, times] : {std::pair{0, 1}, {2, 64}, {3, 65}, {5, 128}, {8, 200}})
            ids.insert(ids.end(), times, id);
        for (size_t i = ids.size() - 1; i > 0; i--) std::swap(ids[i], ids[below(mix64(1, i), i + 1)]);
        for (size_t at = 0, s = 0; at < ids.size(); s++) {
            size_t n = std::min<size_t>(1 + s % T, ids.size() - at);
            std::vector<int> types(n);
            for (size_t i = 0; i < n; i++) types[i] = i > 2;
            builder.add({ids.begin() + at, ids.begin() + at + n}, types, {}, {});
            at += n;
        }
        std::vector<char> host(builder.shape.bytes());
        Batch b = builder.finish(host.data(), StepCounters{}, 1);
        REQUIRE(b.by_token.U == 3);  // ids 3, 5, 8
        REQUIRE(b.by_type.U == 2);
        Numbers wte = random_numbers(V * C, 1), wpe = random_numbers(T * C, 2), wtt = random_numbers(2 * C, 3),
                dout = random_numbers(b.N * C, 4), out(b.N * C);
        auto loss = [&] {
            embedding_forward(out.data(), wte.data(), wpe.data(), wtt.data(), b.tokens, b.pos, b.types, b.N, C);
            return dot(out, dout);
        };
        auto check = [&](const char* name, Numbers& w, SortedIds sorted) {
            Numbers before = random_numbers(w.size(), 5), dw = before, partial = nans(embedding_slots(b.N) * C);
            embedding_backward(dw.data(), dout.data(), sorted, partial.data(), C);
            check_gradient(name, w, minus(dw, before), loss);
        };
        check("wte", wte, b.by_token);
        check("wpe", wpe, b.by_pos);
        check("wtt", wtt, b.by_type);
        Numbers with = out;
        embedding_forward(out.data(), wte.data(), wpe.data(), (const double*)nullptr, b.tokens, b.pos, b.types, b.N,
            C);  // a model without types
        for (int i = 0; i < b.N * C; i++) out[i] += wtt[b.types[i / C] * C + i % C];
        CHECK(distance(out.data(), with.data(), out.size()) < 1e-14);
        embedding_forward(out.data(), wte.data(), (const double*)nullptr, (const double*)nullptr, b.tokens, b.pos,
            b.types, b.N, C);  // nor positions
        for (int i = 0; i < b.N * C; i++) CHECK(out[i] == wte[b.tokens[i / C] * C + i % C]);
    }

    TEST_CASE("layernorm") {
        for (auto [N, C] : {std::pair{3, 7}, {300, 5}}) {  // 300: more than two chunks of rows
            Numbers x = random_numbers(N * C, 1), w = random_numbers(C, 2, 0.3, 1), b = random_numbers(C, 3),
                    dout = random_numbers(N * C, 4);
            Numbers out(N * C), mean(N), rstd(N);
            auto loss = [&, N = N, C = C] {
                norm_forward(out.data(), mean.data(), rstd.data(), x.data(), w.data(), b.data(), N, C, 1e-5);
                return dot(out, dout);
            };
            loss();
            Numbers dx = nans(N * C), before = random_numbers(C, 5), dw = before, db = before,
                    scratch = nans(layernorm_scratch(N, C));
            norm_backward(dx.data(), dw.data(), db.data(), dout.data(), x.data(), w.data(), mean.data(), rstd.data(),
                scratch.data(), N, C);
            check_gradient("dinp", x, dx, loss);
            check_gradient("dweight", w, minus(dw, before), loss);
            check_gradient("dbias", b, minus(db, before), loss);
            Numbers in_place = dout;
            norm_backward(in_place.data(), dw.data(), db.data(), in_place.data(), x.data(), w.data(), mean.data(),
                rstd.data(), scratch.data(), N, C);
            CHECK(in_place == dx);
        }
    }

    TEST_CASE("residual and layernorm") {
        StepCounters counters{7, 3, 11};
        for (float p : {0.0f, 0.3f})
            for (bool later : {false, true})  // does a gradient reach `sum` from later on?
                for (int N : {4, 150}) {
                    CAPTURE(p);
                    CAPTURE(later);
                    const int C = 6;
                    Dropout dropout{&counters, 5, p};
                    Numbers x = random_numbers(N * C, 1), y = random_numbers(N * C, 2),
                            w = random_numbers(C, 3, 0.3, 1), b = random_numbers(C, 4);
                    Numbers dout = random_numbers(N * C, 5), dres = random_numbers(N * C, 6), out(N * C), sum(N * C),
                            mean(N), rstd(N);
                    auto loss = [&] {
                        residual_norm_forward(out.data(), sum.data(), mean.data(), rstd.data(), x.data(), y.data(),
                            w.data(), b.data(), N, C, 1e-5, dropout);
                        return dot(out, dout) + (later ? dot(sum, dres) : 0);
                    };
                    loss();
                    Numbers dx = nans(N * C), dy = nans(N * C), before = random_numbers(C, 7), dw = before, db = before,
                            scratch = nans(layernorm_scratch(N, C));
                    auto backward = [&](Numbers& dsum, Numbers& dbranch, const Numbers& d, const Numbers& dr) {
                        residual_norm_backward(dsum.data(), dbranch.data(), dw.data(), db.data(), d.data(),
                            later ? dr.data() : nullptr, sum.data(), w.data(), mean.data(), rstd.data(), scratch.data(),
                            N, C, dropout);
                    };
                    backward(dx, dy, dout, dres);
                    check_gradient("residual", x, dx, loss, 60);
                    check_gradient("branch", y, dy, loss, 60);
                    check_gradient("dweight", w, minus(dw, before), loss);
                    check_gradient("dbias", b, minus(db, before), loss);
                    // the allowed aliases: dsum is dout, dsum is dresidual, sum is branch
                    Numbers d = dout, r = dres, e = nans(N * C);
                    backward(d, e, d, dres);
                    CHECK(d == dx);
                    CHECK(e == dy);
                    backward(r, e, dout, r);
                    CHECK(r == (later ? dx : r));
                    Numbers branch = y, out2(N * C);
                    residual_norm_forward(out2.data(), branch.data(), mean.data(), rstd.data(), x.data(), branch.data(),
                        w.data(), b.data(), N, C, 1e-5, dropout);
                    CHECK(branch == sum);
                    CHECK(out2 == out);
                }
    }

    TEST_CASE("rmsnorm") {
        for (auto [N, C] : {std::pair{3, 7}, {300, 5}}) {  // 300: more than two chunks of rows
            const double eps = 0.3;                        // large enough to be seen
            Numbers x = random_numbers(N * C, 1), w = random_numbers(C, 2, 0.3, 1), dout = random_numbers(N * C, 4);
            Numbers out(N * C), rstd(N), scratch = nans(layernorm_scratch(N, C));
            auto loss = [&, N = N, C = C] {
                norm_forward<double>(out.data(), nullptr, rstd.data(), x.data(), w.data(), nullptr, N, C, eps);
                return dot(out, dout);
            };
            loss();
            for (int i = 0; i < N * C; i++) {
                double squares = 0;
                for (int c = 0; c < C; c++) squares += x[i / C * C + c] * x[i / C * C + c];
                CHECK(out[i] == doctest::Approx(x[i] / sqrt(squares / C + eps) * w[i % C]).epsilon(1e-13));
            }
            Numbers dx = nans(N * C), before = random_numbers(C, 5), dw = before;
            residual_norm_backward<double>(dx.data(), nullptr, dw.data(), nullptr, dout.data(), nullptr, x.data(),
                w.data(), nullptr, rstd.data(), scratch.data(), N, C, Dropout());
            check_gradient("dinp", x, dx, loss);
            check_gradient("dweight", w, minus(dw, before), loss);
            Numbers in_place = dout, y = x;  // the allowed aliases; and a weight that is not trained
            residual_norm_backward<double>(in_place.data(), nullptr, nullptr, nullptr, in_place.data(), nullptr,
                x.data(), w.data(), nullptr, rstd.data(), scratch.data(), N, C, Dropout());
            CHECK(in_place == dx);
            norm_forward<double>(y.data(), nullptr, rstd.data(), y.data(), w.data(), nullptr, N, C, eps);
            CHECK(y == out);
        }
    }

    TEST_CASE("residual and rmsnorm") {
        StepCounters counters{7, 3, 11};
        for (float p : {0.0f, 0.3f})
            for (bool later : {false, true})  // does a gradient reach `sum` from later on?
                for (int N : {4, 150}) {
                    CAPTURE(p);
                    CAPTURE(later);
                    const int C = 6;
                    Dropout dropout{&counters, 5, p};
                    Numbers x = random_numbers(N * C, 1), y = random_numbers(N * C, 2),
                            w = random_numbers(C, 3, 0.3, 1), dout = random_numbers(N * C, 5),
                            dres = random_numbers(N * C, 6), out(N * C), sum(N * C), rstd(N);
                    auto loss = [&] {
                        residual_norm_forward<double>(out.data(), sum.data(), nullptr, rstd.data(), x.data(), y.data(),
                            w.data(), nullptr, N, C, 1e-5, dropout);
                        return dot(out, dout) + (later ? dot(sum, dres) : 0);
                    };
                    loss();
                    Numbers dx = nans(N * C), dy = nans(N * C), before = random_numbers(C, 7), dw = before,
                            scratch = nans(layernorm_scratch(N, C));
                    auto backward = [&](Numbers& dsum, Numbers& dbranch, const Numbers& d, const Numbers& dr) {
                        residual_norm_backward(dsum.data(), dbranch.data(), dw.data(), nullptr, d.data(),
                            later ? dr.data() : nullptr, sum.data(), w.data(), nullptr, rstd.data(), scratch.data(), N,
                            C, dropout);
                    };
                    backward(dx, dy, dout, dres);
                    check_gradient("residual", x, dx, loss, 60);
                    check_gradient("branch", y, dy, loss, 60);
                    check_gradient("dweight", w, minus(dw, before), loss);
                    Numbers d = dout, r = dres, e = nans(N * C);  // the allowed aliases, as for layernorm
                    backward(d, e, d, dres);
                    CHECK(d == dx);
                    CHECK(e == dy);
                    backward(r, e, dout, r);
                    CHECK(r == (later ? dx : r));
                    Numbers branch = y, out2(N * C);
                    residual_norm_forward<double>(out2.data(), branch.data(), nullptr, rstd.data(), x.data(),
                        branch.data(), w.data(), nullptr, N, C, 1e-5, dropout);
                    CHECK(branch == sum);
                    CHECK(out2 == out);
                }
    }

    TEST_CASE("rope, alone and after RMSNorm of the heads") {
        const int NH = 3, NKV = 2, T = 40, heads = NH + 2 * NKV;
        const double eps = 0.2;                                       // large enough to be seen
        for (auto [N, size] : {std::pair{5, 2}, {5, 6}, {140, 4}}) {  // 140: more than one chunk of tokens
            const int HS = size;
            CAPTURE(HS);
            const int C = heads * HS;
            RopeConfig rope;
            rope.theta = 50;
            Numbers table = rope_table<double>(rope, T, HS), qkv = random_numbers(N * C, 1),
                    dout = random_numbers(N * C, 2), out(N * C), rstd(N * (NH + NKV)),
                    qw = random_numbers(HS, 3, 0.3, 1), kw = random_numbers(HS, 4, 0.3, 1);
            std::vector<int> pos;
            for (int n = 0; n < N; n++) pos.push_back((n * 7 + 3) % T);
            auto loss = [&, N = N, HS = HS] {
                out = qkv;
                rope_forward<double>(
                    out.data(), nullptr, out.data(), nullptr, nullptr, table.data(), pos.data(), N, NH, NKV, HS, eps);
                return dot(out, dout);
            };
            loss();
            double worst = 0;  // beside the formula
            for (int i = 0; i < N * C; i++) {
                int n = i / C, h = i / HS % heads, c = i % HS, j = c % (HS / 2);
                double angle = pos[n] * pow(50, -2.0 * j / HS), x = qkv[i - c + j], y = qkv[i - c + j + HS / 2];
                double want = c < HS / 2 ? x * cos(angle) - y * sin(angle) : y * cos(angle) + x * sin(angle);
                worst = std::max(worst, fabs(out[i] - (h < NH + NKV ? want : qkv[i])));
            }
            CHECK(worst < 1e-13);
            Numbers dx = dout;
            Numbers scratch = nans(layernorm_scratch(N, HS));
            rope_backward<double>(dx.data(), nullptr, nullptr, qkv.data(), nullptr, nullptr, nullptr, table.data(),
                pos.data(), scratch.data(), N, NH, NKV, HS);
            check_gradient("rope", qkv, dx, loss, 200);

            auto norm_loss = [&, N = N, HS = HS] {
                rope_forward(out.data(), rstd.data(), qkv.data(), qw.data(), kw.data(), table.data(), pos.data(), N, NH,
                    NKV, HS, eps);
                return dot(out, dout);
            };
            norm_loss();
            Numbers one_by_one = qkv, ones(N);  // the two ops after each other
            for (int n = 0; n < N; n++)
                for (int h = 0; h < NH + NKV; h++) {
                    double* x = &one_by_one[n * C + h * HS];
                    norm_forward<double>(
                        x, nullptr, ones.data(), x, h < NH ? qw.data() : kw.data(), nullptr, 1, HS, eps);
                }
            rope_forward<double>(one_by_one.data(), nullptr, one_by_one.data(), nullptr, nullptr, table.data(),
                pos.data(), N, NH, NKV, HS, eps);
            // The same bits by g++. clang adds the HS squares of a head in another order in each of the two loops: a
            // relative error of at most HS · 1.1e-16 in the sum, half of it in its root, and values here are below 4.
            auto same = [](const Numbers& a, const Numbers& b) {
                double most = 0;
                for (size_t i = 0; i < a.size(); i++) most = std::max(most, std::fabs(a[i] - b[i]));
#ifdef __clang__
                return most <= 4 * 6 * 1.1e-16;
#else
                return most == 0;
#endif
            };
            CHECK(same(one_by_one, out));
            Numbers dq0 = random_numbers(HS, 5), dk0 = random_numbers(HS, 6), dqw = dq0, dkw = dk0;
            dx = dout;
            rope_backward(dx.data(), dqw.data(), dkw.data(), qkv.data(), qw.data(), kw.data(), rstd.data(),
                table.data(), pos.data(), scratch.data(), N, NH, NKV, HS);
            check_gradient("qkv", qkv, dx, norm_loss, 200);
            check_gradient("qw", qw, minus(dqw, dq0), norm_loss);
            check_gradient("kw", kw, minus(dkw, dk0), norm_loss);
            Numbers x = qkv;  // in place
            rope_forward(
                x.data(), rstd.data(), x.data(), qw.data(), kw.data(), table.data(), pos.data(), N, NH, NKV, HS, eps);
            CHECK(same(x, one_by_one));
        }
    }

    template <class F> static void check_glu(double (*f)(double)) {
        for (auto [N, FF] : {std::pair{1, 1}, {7, 9}}) {
            Numbers x = random_numbers(N * 2 * FF, 1, 2), dout = random_numbers(N * FF, 2), out(N * FF),
                    dx = nans(N * 2 * FF);
            auto loss = [&, N = N, FF = FF] {
                glu_forward<F>(out.data(), x.data(), N, FF);
                return dot(out, dout);
            };
            glu_backward<F>(dx.data(), dout.data(), x.data(), N, FF);
            check_gradient("dinp", x, dx, loss);
            loss();
            for (int i = 0; i < N * FF; i++) {
                double gate = x[i / FF * 2 * FF + i % FF], up = x[(i / FF * 2 + 1) * FF + i % FF];
                CHECK(out[i] == doctest::Approx(f(gate) * up).epsilon(1e-13));
            }
            Numbers d = x;  // in place
            glu_backward<F>(d.data(), dout.data(), d.data(), N, FF);
            CHECK(d == dx);
        }
    }
    TEST_CASE("gated units") {
        check_glu<Silu>([](double x) { return x / (1 + exp(-x)); });
        check_glu<GeluErf>([](double x) { return x / 2 * (1 + erf(x / sqrt(2))); });
    }

    TEST_CASE("matmul") {
        for (auto [rows, C, OC] : {std::tuple{1, 3, 2}, {5, 4, 6},
                 {300, 3, 150}}) {  // 300, 150: more than one panel of rows, of output channels
            const int N = rows;
            CAPTURE(N);
            for (bool bias : {true, false}) {
                Numbers x = random_numbers(N * C, 1), w = random_numbers(OC * C, 2), b = random_numbers(OC, 3),
                        dout = random_numbers(N * OC, 4), out(N * OC);
                auto loss = [&, N = N, C = C, OC = OC] {
                    matmul_forward(out.data(), x.data(), w.data(), bias ? b.data() : nullptr, N, C, OC);
                    return dot(out, dout);
                };
                Numbers dx = nans(N * C), before = random_numbers(OC * C, 5), dw = before, db = before,
                        scratch = nans(column_sum_scratch(N, OC));
                matmul_backward_input(dx.data(), dout.data(), w.data(), N, C, OC);
                matmul_backward_weight(
                    dw.data(), bias ? db.data() : nullptr, dout.data(), x.data(), scratch.data(), N, C, OC);
                check_gradient("dinp", x, dx, loss);
                check_gradient("dweight", w, minus(dw, before), loss);
                db.resize(OC);
                before.resize(OC);
                if (bias) check_gradient("dbias", b, minus(db, before), loss);
                else CHECK(db == before);
                Numbers twice = dx;
                matmul_backward_input(twice.data(), dout.data(), w.data(), N, C, OC, true);
                for (double& d : dx) d *= 2;
                CHECK(distance(twice.data(), dx.data(), dx.size()) < 1e-14);
            }
        }
    }

    template <Gelu kind> static void check_matmul_gelu(int N) {
        // y = gelu(x wᵀ + b), out = y uᵀ: the fused forward, and the fused backward through y
        const int C = 3, FF = 5, OC = 4;
        Numbers x = random_numbers(N * C, 1), w = random_numbers(FF * C, 2), b = random_numbers(FF, 3),
                u = random_numbers(OC * FF, 4), none;
        Numbers dout = random_numbers(N * OC, 5), pre(N * FF), act(N * FF), out(N * OC);
        auto loss = [&] {
            matmul_gelu_forward<kind>(act.data(), pre.data(), x.data(), w.data(), b.data(), N, C, FF);
            matmul_forward(out.data(), act.data(), u.data(), (const double*)nullptr, N, FF, OC);
            return dot(out, dout);
        };
        loss();
        Numbers dpre = nans(N * FF), dx = nans(N * C), dw(FF * C), db(FF), scratch = nans(column_sum_scratch(N, FF));
        matmul_backward_input_gelu<kind>(dpre.data(), dout.data(), u.data(), pre.data(), N, FF, OC);
        matmul_backward_input(dx.data(), dpre.data(), w.data(), N, C, FF);
        matmul_backward_weight(dw.data(), db.data(), dpre.data(), x.data(), scratch.data(), N, C, FF);
        check_gradient("dinp", x, dx, loss);
        check_gradient("dweight", w, dw, loss);
        check_gradient("dbias", b, db, loss);
    }
    TEST_CASE("matmul and gelu") {
        for (int N : {1, 6, 270}) {
            check_matmul_gelu<Gelu::erf>(N);
            check_matmul_gelu<Gelu::tanh>(N);
        }
    }

    template <Gelu kind> static void check_gelu() {
        Numbers x = random_numbers(61, 1, 2), dout = random_numbers(61, 2), out(61), dx = nans(61);
        auto loss = [&] {
            elementwise(GeluOf<kind>(), x.size(), out.data(), x.data());
            return dot(out, dout);
        };
        elementwise(GeluGradient<kind>(), x.size(), dx.data(), dout.data(), x.data());
        check_gradient("dinp", x, dx, loss);
        // against the definitions, so that a forward and a backward that are wrong together do not pass
        loss();
        for (size_t i = 0; i < x.size(); i++) {
            double u = sqrt(2 / M_PI) * (x[i] + 0.044715 * pow(x[i], 3));
            double expected = kind == Gelu::erf ? x[i] * 0.5 * (1 + erf(x[i] / sqrt(2))) : 0.5 * x[i] * (1 + tanh(u));
            CHECK(out[i] == doctest::Approx(expected).epsilon(1e-12));
        }
    }
    TEST_CASE("gelu") {
        check_gelu<Gelu::erf>();
        check_gelu<Gelu::tanh>();
    }

    TEST_CASE("tanh") {
        Numbers x = random_numbers(61, 1, 2), dout = random_numbers(61, 2), out(61), dx = nans(61);
        auto loss = [&] {
            elementwise(TanhOf(), x.size(), out.data(), x.data());
            return dot(out, dout);
        };
        loss();
        for (size_t i = 0; i < x.size(); i++) CHECK(out[i] == doctest::Approx(tanh(x[i])).epsilon(1e-12));
        elementwise(TanhGradient(), x.size(), dx.data(), dout.data(), out.data());
        check_gradient("dinp", x, dx, loss);
        Numbers y = x, d = dout;  // the allowed aliases
        elementwise(TanhOf(), y.size(), y.data(), y.data());
        elementwise(TanhGradient(), y.size(), d.data(), d.data(), y.data());
        CHECK(y == out);
        CHECK(d == dx);
    }

    TEST_CASE("low-rank adapters") {
        // one for the whole weight; two of three parts, with other rows between them; N so large that there are panels
        StepCounters counters{5, 3, 100};
        struct Case {
            int N, C, OC, r;
            std::vector<LoraPart> parts;
        };
        for (const Case& c : {Case{3, 7, 5, 2, {{0, 5}}}, {270, 6, 9, 3, {{0, 4}, {6, 3}}}})
            for (float p : {0.0f, 0.4f}) {
                const int N = c.N, C = c.C, OC = c.OC;
                LoraShape s;
                s.r = c.r;
                s.scale = 1.7f;
                int rows = 0;
                for (const LoraPart& part : c.parts) {
                    s.parts[s.P++] = part;
                    rows += part.rows;
                }
                const int R = s.width();
                Dropout dropout{&counters, 5, p};
                Numbers x = random_numbers(N * C, 1), a = random_numbers(R * C, 2), b = random_numbers(rows * c.r, 3),
                        base = random_numbers(N * OC, 4), dout = random_numbers(N * OC, 5);
                Numbers out, u(N * R), dropped(N * C);
                LoraTensors<double> w{a.data(), b.data()};
                auto loss = [&] {
                    out = base;
                    lora_forward(out.data(), u.data(), dropped.data(), x.data(), w, s, N, C, OC, dropout);
                    return dot(out, dout);
                };
                loss();
                // as the formula at the top of lora.cuh, by plain loops
                Numbers expected = base;
                for (int n = 0; n < N; n++) {
                    DropoutRow keep(dropout, n);
                    const double* bp = b.data();
                    for (int q = 0; q < s.P; bp += s.parts[q].rows * c.r, q++)
                        for (int j = 0; j < c.r; j++) {
                            double sum = 0;
                            for (int k = 0; k < C; k++)
                                sum += x[n * C + k] * (p > 0 ? keep(k) : 1) * a[(q * c.r + j) * C + k];
                            for (int o = 0; o < s.parts[q].rows; o++)
                                expected[n * OC + s.parts[q].begin + o] += (double)s.scale * sum * bp[o * c.r + j];
                        }
                }
                CHECK(distance(out.data(), expected.data(), out.size()) < 1e-14);
                Numbers before_a = random_numbers(a.size(), 6), before_b = random_numbers(b.size(), 7), da = before_a,
                        db = before_b, du = nans(N * R), before_x = random_numbers(x.size(), 8), dx = before_x;
                lora_backward_weight({da.data(), db.data()}, du.data(), dropped.data(), dout.data(), x.data(), u.data(),
                    w, s, N, C, OC, dropout);
                lora_backward_input(dx.data(), dropped.data(), du.data(), w, s, N, C, dropout);
                check_gradient("a", a, minus(da, before_a), loss);
                check_gradient("b", b, minus(db, before_b), loss);
                check_gradient("x", x, minus(dx, before_x), loss);
            }
    }
    TEST_CASE("dropout") {
        StepCounters counters{1, 2, 3};
        for (float p : {0.0f, 0.4f}) {
            const int N = 7, C = 9;
            Dropout dropout{&counters, 4, p};
            Numbers x = random_numbers(N * C, 1), dout = random_numbers(N * C, 2), out(N * C), dx = nans(N * C);
            auto loss = [&] {
                dropout_forward(out.data(), x.data(), N, C, dropout);
                return dot(out, dout);
            };
            dropout_forward(dx.data(), dout.data(), N, C, dropout);
            check_gradient("dinp", x, dx, loss);
        }
    }
    TEST_CASE("dropout of gathered rows") {
        // gather, then dropout of the rows that were gathered: the same as dropout, then gather
        StepCounters counters{1, 2, 3};
        Dropout dropout{&counters, 4, 0.4f};
        const int N = 9, C = 5;
        std::vector<int> rows{8, 0, 3, 4, -1};
        const int M = (int)rows.size();
        Dropout gathered = dropout;
        gathered.rows = rows.data();
        Numbers x = random_numbers(N * C, 1), dout = random_numbers(M * C, 2), picked(M * C), out(M * C), all(N * C),
                expected(M * C);
        auto loss = [&] {
            gather_rows(picked.data(), x.data(), rows.data(), M, C);
            dropout_forward(out.data(), picked.data(), M, C, gathered);
            return dot(out, dout);
        };
        loss();
        dropout_forward(all.data(), x.data(), N, C, dropout);
        gather_rows(expected.data(), all.data(), rows.data(), M, C);
        CHECK(out == expected);
        CHECK(std::count(out.begin(), out.end() - C, 0) > 0);
        Numbers d(M * C), dx = nans(N * C);
        dropout_forward(d.data(), dout.data(), M, C, gathered);
        scatter_rows(dx.data(), d.data(), rows.data(), N, M, C);
        check_gradient("dinp", x, dx, loss);
    }

    TEST_CASE("gather and scatter") {
        const int N = 9, C = 4;
        std::vector<int> rows{0, 3, 4, 8, -1, -1};
        const int M = (int)rows.size();
        Numbers x = random_numbers(N * C, 1), dout = random_numbers(M * C, 2), out = nans(M * C), dx = nans(N * C);
        auto loss = [&] {
            gather_rows(out.data(), x.data(), rows.data(), M, C);
            return dot(out, dout);
        };
        scatter_rows(dx.data(), dout.data(), rows.data(), N, M, C);
        check_gradient("dinp", x, dx, loss);
        loss();
        for (int i = 4 * C; i < M * C; i++) CHECK(out[i] == 0);
    }

    TEST_CASE("column sums") {
        for (int N : {1, 128, 300}) {
            const int C = 3;
            Numbers x = random_numbers(N * C, 1), before = random_numbers(C, 2), sum = before,
                    scratch = nans(column_sum_scratch(N, C)), dsum = random_numbers(C, 3);
            auto loss = [&] {
                Numbers s(C);
                column_sum(s.data(), x.data(), scratch.data(), N, C);
                return dot(s, dsum);
            };
            column_sum(sum.data(), x.data(), scratch.data(), N, C);
            for (int c = 0; c < C; c++) {
                double expected = before[c];
                for (int n = 0; n < N; n++) expected += x[n * C + c];
                CHECK(sum[c] == doctest::Approx(expected).epsilon(1e-12));
            }
            Numbers dx(N * C);
            for (int i = 0; i < N * C; i++) dx[i] = dsum[i % C];
            check_gradient("inp", x, dx, loss);
        }
    }

    TEST_CASE("crossentropy") {
        for (auto [words, padded] : {std::pair{2, 2}, {2, 64}, {61, 64}, {64, 64}, {130, 192}}) {
            const int V = words, Vp = padded;
            CAPTURE(V);
            CAPTURE(Vp);
            std::vector<int> targets{0, V - 1, -1, V / 2, 1, -1};
            const int M = (int)targets.size();
            double scale = 1.0 / 4;
            Numbers x = random_numbers(M * Vp, 1, 2), losses = nans(M), correct = nans(M);
            auto loss = [&, V = V, Vp = Vp] {
                Numbers logits = x;
                crossentropy(losses.data(), correct.data(), logits.data(), targets.data(), &scale, M, V, Vp, false);
                REQUIRE(logits == x);  // without `backward` they stay
                return dot(losses, Numbers(M, scale));
            };
            Numbers dx = x;
            crossentropy(losses.data(), correct.data(), dx.data(), targets.data(), &scale, M, V, Vp, true);
            check_gradient("logits", x, dx, loss, 400);
            int not_zero = 0;
            for (int m = 0; m < M; m++)
                for (int v = 0; v < Vp; v++) not_zero += (v >= V || targets[m] < 0) && dx[m * Vp + v] != 0;
            CHECK(not_zero == 0);
        }
    }

    TEST_CASE("crossentropy with weights of the classes") {
        for (auto [classes, Kp] : {std::pair{2, 8}, {5, 8}, {8, 8}, {11, 16}}) {
            const int K = classes;
            CAPTURE(K);
            std::vector<int> targets{0, K - 1, -1, K / 2, 1, -1};
            const int M = (int)targets.size();
            Numbers weights, x = random_numbers(M * Kp, 1, 2), losses = nans(M), correct = nans(M), plain = x, dx = x;
            for (int k = 0; k < K; k++) weights.push_back(0.25 + k);
            double scale = 1 / (weights[0] + weights[K - 1] + weights[K / 2] + weights[1]), one = 1;
            auto loss = [&, K = K, Kp = Kp] {
                Numbers logits = x;
                crossentropy(losses.data(), correct.data(), logits.data(), targets.data(), &scale, M, K, Kp, false,
                    weights.data());
                return dot(losses, Numbers(M, scale));
            };
            crossentropy(
                losses.data(), correct.data(), dx.data(), targets.data(), &scale, M, K, Kp, true, weights.data());
            check_gradient("logits", x, dx, loss, 400);
            // loss and gradient of a row are those without weights, times the weight of its target
            Numbers losses1 = nans(M), correct1 = nans(M);
            crossentropy(losses1.data(), correct1.data(), plain.data(), targets.data(), &one, M, K, Kp, true);
            CHECK(correct == correct1);
            double worst = 0;
            for (int m = 0; m < M; m++) {
                double w = targets[m] < 0 ? 0 : weights[targets[m]];
                worst = std::max(worst, fabs(losses[m] - w * losses1[m]));
                for (int v = 0; v < Kp; v++)
                    worst = std::max(worst, fabs(dx[m * Kp + v] - w * scale * plain[m * Kp + v]));
            }
            CHECK(worst < 1e-13);
        }
    }

    // qkv of one token next to the other's; loss = Σ w · out
    static void check_attention(
        const std::vector<int>& lengths, int NH, int NKV, int HS, Reach reach, float p, size_t most) {
        CAPTURE(NKV);
        CAPTURE(reach.before);
        CAPTURE(reach.after);
        CAPTURE(p);
        CAPTURE(lengths.size());
        StepCounters counters{5, 6, 7};
        Dropout dropout{&counters, 1, p};
        std::vector<int> start{0};
        for (int n : lengths) start.push_back(start.back() + n);
        const int N = start.back(), C = NH * HS, KV = NKV * HS, row = C + 2 * KV;
        Sequences seq{start.data(), nullptr, (int)lengths.size(), 0, N};
        Numbers qkv = random_numbers(N * row, 1), dout = random_numbers(N * C, 2), out(N * C), lse(NH * N);
        auto loss = [&] {
            attention_forward(out.data(), lse.data(), qkv.data(), seq, NH, NKV, HS, reach, dropout);
            return dot(out, dout);
        };
        loss();
        Numbers dqkv = nans(N * row), delta = nans(NH * N);
        attention_backward(dqkv.data(), delta.data(), dout.data(), out.data(), qkv.data(), lse.data(), seq, NH, NKV, HS,
            reach, dropout);
        check_gradient("qkv", qkv, dqkv, loss, most);

        // the forward pass against the formula
        double worst = 0;
        for (size_t s = 0; s < lengths.size(); s++)
            for (int h = 0; h < NH; h++)
                for (int i = start[s]; i < start[s + 1]; i++) {
                    DropoutRow keep(dropout, i, NH, h);
                    Numbers o(HS);
                    double sum = 0;
                    const int kv = h * NKV / NH;
                    for (int j = start[s]; j < start[s + 1]; j++) {
                        if (j < i - reach.before || j > i + reach.after) continue;
                        double score = 0;
                        for (int c = 0; c < HS; c++)
                            score += qkv[i * row + h * HS + c] * qkv[j * row + C + kv * HS + c];
                        double e = exp(score / sqrt(HS));
                        sum += e;
                        for (int c = 0; c < HS; c++)
                            o[c] += (p > 0 ? keep(j - start[s]) : 1) * e * qkv[j * row + C + KV + kv * HS + c];
                    }
                    for (int c = 0; c < HS; c++)
                        worst = std::max(worst, fabs(o[c] / sum - out[(size_t)i * C + h * HS + c]));
                    worst = std::max(worst, fabs(log(sum) - lse[(size_t)h * N + i]));
                }
        CHECK(worst < 1e-12);

        if (reach.after > 0 || reach.before < N || p > 0)
            return;  // with a cache, the last token of each sequence by itself: the same
        const int S = seq.S, context = *std::max_element(lengths.begin(), lengths.end()) + 10;
        std::vector<int> slots, pos;
        Numbers last, want, k = nans((size_t)S * context * KV), v = k, got((size_t)S * C);
        for (int s = 0; s < S; s++) {
            slots.push_back((s + 1) % S);
            pos.push_back(lengths[s] - 1);
            last.insert(last.end(), &qkv[(start[s + 1] - 1) * row], &qkv[0] + start[s + 1] * row);
            want.insert(want.end(), &out[(start[s + 1] - 1) * C], &out[0] + start[s + 1] * C);
            double* newest = &qkv[(start[s + 1] - 1) * row];
            std::fill(newest, newest + row, NAN);  // comes with attention_decode
        }
        KvCacheView<double> cache{k.data(), v.data(), context};
        attention_cache(cache, qkv.data(), seq, slots.data(), NH, NKV, HS);
        attention_decode(got.data(), cache, last.data(), slots.data(), pos.data(), S, NH, NKV, HS);
        CHECK(distance(got.data(), want.data(), want.size()) < 1e-13);
    }
    TEST_CASE("attention, every element") {
        for (Reach reach : {ALL_KEYS, CAUSAL, Reach{1, 1}, Reach{2, 0}, Reach{0, 3}})
            for (float p : {0.0f, 0.3f}) check_attention({1, 5, 2, 4}, 2, 2, 4, reach, p, 1000);
    }
    TEST_CASE("attention, sequences longer than the tiles of 64 queries and 256 keys") {
        for (Reach reach : {ALL_KEYS, CAUSAL, Reach{64, 64}, Reach{20, 7}, Reach{270, 250}})
            for (float p : {0.0f, 0.1f}) check_attention({70, 1, 300}, 2, 2, 8, reach, p, 60);
    }
    TEST_CASE("attention, several heads of queries to one of keys") {
        for (Reach reach : {ALL_KEYS, CAUSAL, Reach{1, 2}})
            for (float p : {0.0f, 0.3f})
                for (int NKV : {1, 2, 3}) check_attention({1, 5, 2, 4}, 6, NKV, 3, reach, p, 1000);
        check_attention({70, 1, 300}, 4, 2, 8, CAUSAL, 0.1f, 60);
    }
    TEST_CASE("attention of one token, to more keys than stay in the cache, and channels of every width of vectors") {
        check_attention({530, 3}, 4, 2, 45, CAUSAL, 0, 3);
    }
}

// of a BERT or a classifier
template <class S> static void check_bert_gradients(S& small, const Batch& b) {
    double query_bias = 0;
    check_model_gradients(small, b, [&](const std::string& name, size_t at, size_t n, const Numbers& g) {
        if (is_query_bias(name)) query_bias = l2(&g[at], n);
        // a key bias adds the same to all scores of a query: its gradient is zero in exact arithmetic
        if (is_key_bias(name)) CHECK_MESSAGE(l2(&g[at], n) <= 1e-6 * query_bias, name);
        else check_gradient(name, small.opt.params + at, &g[at], n, [&] { return small.loss(b); }, 48);
    });
}

TEST_SUITE("gradients of the model") {
    static void check_model(float dropout, const char* type = "bert", bool recompute = false) {
        CAPTURE(type);
        CAPTURE(recompute);
        BertConfig config = SmallBert::dimensions(2, 16, 2, 24, 37, 12);
        config.type = type;
        config.modern = config.type == "modernbert";
        if (config.modern) {  // layers 0 and 2 see everything, layer 1 three tokens to each side
            config.L = 3;
            config.types = 0;
            config.window = 3;
            config.global_every = 2;
        }
        SmallBert bert(config, 40, dropout, recompute);
        bert.randomise(1);
        bert.model.logits_chunk_rows = 5;  // the vocabulary in several chunks of rows, the last one smaller
        add_random_sequences(bert.builder, {12, 1, 7, 3, 12}, 37, 2);
        REQUIRE(bert.builder.targets.size() % 5 != 0);
        REQUIRE(bert.builder.targets.size() > 5);
        Batch b = bert.batch({3, 4, 5});
        check_bert_gradients(bert, b);
    }
    TEST_CASE("loss of a BERT by every parameter tensor") { check_model(0); }
    TEST_CASE("loss of a BERT by every parameter tensor, dropout 0.1") { check_model(0.1f); }
    TEST_CASE("loss of a ModernBERT by every parameter tensor, with and without recomputation and dropout") {
        check_model(0, "modernbert");
        check_model(0.1f, "modernbert", true);
    }
}

TEST_SUITE("gradients of the classifier") {
    static const std::vector<int> LENGTHS{12, 1, 7, 3, 12, 9};

    static void check_classifier(int K, float dropout, const std::vector<double>& weights, const char* type = "bert",
        bool mean = false, const LoraFlags& lora = {}) {
        CAPTURE(K);
        CAPTURE(dropout);
        CAPTURE(type);
        BertConfig config = SmallBert::dimensions(2, 16, 2, 24, 37, 12);
        config.type = type;
        config.modern = config.type == "modernbert";
        config.mean_pooling = mean;
        if (config.modern) config.types = 0;
        SmallClassifier c(config, K, 50, dropout, weights, lora, lora.r > 0);
        randomise(c.opt, 1);
        add_random_examples(c.builder, LENGTHS, 37, K, 2);
        Batch b = c.batch({3, 4, 5});
        check_bert_gradients(c, b);
    }
    TEST_CASE("loss of a classifier by every parameter tensor") { check_classifier(2, 0, {}); }
    TEST_CASE("loss of a classifier by every parameter tensor, class weights, dropout 0.1") {
        check_classifier(2, 0.1f, {0.5, 3});
        check_classifier(5, 0.1f, {1, 0.25, 2, 4, 0.75});
    }
    TEST_CASE("loss of a classifier of each other kind, dropout 0.1") {
        check_classifier(3, 0.1f, {}, "distilbert");
        check_classifier(3, 0.1f, {}, "roberta");
        check_classifier(3, 0.1f, {}, "modernbert");
        check_classifier(3, 0.1f, {}, "modernbert", true);
    }

    TEST_CASE("loss of a classifier by its head and by every adapter, of all matrices and of some") {
        LoraFlags lora;
        lora.r = 3;
        lora.alpha = 5;
        for (const char* type : {"bert", "modernbert"})
            for (const char* targets : {"all", "attention"}) {
                CAPTURE(targets);
                lora.targets = targets;
                check_classifier(3, 0.1f, {}, type, false, lora);
            }
        lora.targets = "value,output.dense";
        check_classifier(3, 0, {1, 2, 0.5}, "roberta", false, lora);
    }

    TEST_CASE("what is frozen has no gradient, and the rest has the same bits") {
        SmallClassifier c(SmallBert::dimensions(3, 16, 2, 24, 37, 12), 3, 50, 0.1f, {1, 2, 3});
        randomise(c.opt, 1);
        add_random_examples(c.builder, LENGTHS, 37, 3, 2);
        Batch b = c.batch({3, 4, 5});
        Numbers all = c.gradients(b);
        double loss = c.opt.stats->loss;
        for (int frozen : {-1, 0, 2, 3}) {
            CAPTURE(frozen);
            c.model.frozen = frozen;
            Numbers g = c.gradients(b);
            CHECK(c.opt.stats->loss == loss);
            int zero = 0, tensors = 0;
            for (const ParamSpec& s : c.opt.table) {
                bool is_frozen = frozen >= 0 && s.layer < frozen;  // the embeddings' layer is −1
                Numbers ours(&g[s.offset], &g[s.offset] + s.count), theirs(&all[s.offset], &all[s.offset] + s.count);
                CHECK_MESSAGE(l2(theirs.data(), s.count) > 0, s.names[0]);
                if (is_frozen) CHECK_MESSAGE(l2(ours.data(), s.count) == 0, s.names[0]);
                else CHECK_MESSAGE(ours == theirs, s.names[0]);
                zero += is_frozen;
                tensors++;
            }
            CHECK(zero == (frozen < 0 ? 0 : 5 + 12 * frozen));
            CHECK(tensors == 5 + 3 * 12 + 4);
        }
    }
}
