// A network for the chemistry of a C++ program: one model, two threads, each with its own cells.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "chemnet_step.h"

namespace {

using Model = std::unique_ptr<chemnet_model, decltype(&chemnet_free)>;

struct Cells {
    std::vector<double> T, p, Y; // Y: one row of mass fractions after the other
    std::vector<int> status;
};

Model load(const char *path)
{
    char message[256];
    Model model(chemnet_load(path, message, sizeof message), chemnet_free);
    if (!model)
        throw std::runtime_error(message);
    return model;
}

// The solver's own time step and species, as it would know them; a model for others is refused.
void check(const chemnet_model &model, double dt, const std::vector<std::string> &species)
{
    char message[256];
    std::vector<const char *> names;
    for (const std::string &name : species)
        names.push_back(name.c_str());
    if (chemnet_check(&model, dt, names.size(), names.data(), message, sizeof message) != 0)
        throw std::runtime_error(message);
}

double next_number(std::istream &stream)
{
    std::string text; // streams do not read "nan"
    stream >> text;
    return std::stod(text);
}

// The states before the step of check.txt; see check.c.
Cells read_cells(const char *path)
{
    std::ifstream file(path);
    std::size_t n = 0, n_species = 0;
    if (!(file >> n >> n_species))
        throw std::runtime_error("check.txt cannot be read");
    Cells cells;
    for (std::size_t i = 0; i < n; i++) {
        next_number(file); // the status
        cells.T.push_back(next_number(file));
        cells.p.push_back(next_number(file));
        for (std::size_t k = 0; k < n_species; k++)
            cells.Y.push_back(next_number(file));
        for (std::size_t k = 0; k < 1 + n_species; k++)
            next_number(file); // the state after the step
    }
    cells.status.resize(n);
    return cells;
}

std::size_t advance(const chemnet_model &model, Cells &cells)
{
    const std::size_t n = cells.T.size(), K = chemnet_n_species(&model), half = n / 2;
    std::size_t left[2] = {0, 0};
    auto part = [&](int i, std::size_t first, std::size_t last) {
        left[i] = chemnet_step(&model, last - first, &cells.T[first], &cells.p[first], &cells.Y[first * K],
                               &cells.status[first]);
    };
    std::thread other(part, 0, 0, half);
    part(1, half, n);
    other.join();
    return left[0] + left[1];
}

} // namespace

int main()
{
    try {
        const Model model = load("model.bin");
        std::vector<std::string> species;
        for (std::size_t k = 0; k < chemnet_n_species(model.get()); k++)
            species.push_back(chemnet_species_name(model.get(), k));
        check(*model, chemnet_dt(model.get()), species);

        Cells cells = read_cells("check.txt");
        const std::vector<double> before = cells.T;
        const std::size_t left = advance(*model, cells);
        double most = 0.0;
        for (std::size_t i = 0; i < before.size(); i++)
            if (cells.status[i] == CHEMNET_OK)
                most = std::max(most, std::abs(cells.T[i] - before[i]));
        std::printf("%s: %zu cells, %zu left to an integrator; T changes by up to %.6g K in %g s\n",
                    chemnet_mechanism(model.get()), before.size(), left, most, chemnet_dt(model.get()));
        for (std::size_t i = 0; i < before.size(); i++)
            if (cells.status[i] != CHEMNET_OK)
                std::printf("cell %zu: %s\n", i, chemnet_status_text(cells.status[i]));
        return 0;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
