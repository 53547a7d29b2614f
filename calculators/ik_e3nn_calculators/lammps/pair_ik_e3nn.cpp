// Pair style ik_e3nn of LAMMPS: a potential exported by `ik-e3nn export lammps`.
//
//   pair_style ik_e3nn                      or: pair_style ik_e3nn max_edges N, the edges that are treated at once
//   pair_coeff * * model.pt2 C H O NULL     an element for each atom type; atoms of type NULL are ignored
//
// The package model.pt2 is machine code: no Python is needed. Each process computes its owned atoms. The package has two
// functions for each interaction (see ik_e3nn/models/networks/layers.py): features_t and gradients_t. Atoms are treated
// in tiles, so that memory does not grow with their number, and features of ghosts come from their owners between the
// interactions, with the communication of LAMMPS.

#include <mpi.h>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "lammps.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair.h"
#include "platform.h"
#include "update.h"
#include "utils.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#if defined(__GLIBC__)
#include <malloc.h>
#endif
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

using namespace LAMMPS_NS;

namespace {

constexpr int FORMAT = 2;                    // of packages
constexpr int WIDTH = 8;                     // edges in a block; all of them have the same receiver
constexpr int PAD = 2;                       // atoms and blocks without meaning: compiled code needs at least two of each
constexpr int MAX_EDGES = 2048;              // of a tile; more need more memory and are slower, since they leave the cache
constexpr double SAME_PLACE = 1e-6;          // A; the direction between such atoms is undefined
constexpr double REAL_PER_METAL = 23.060549; // kcal/mol in one eV, as in LAMMPS's update.cpp and force.cpp

double now() { return MPI_Wtime(); }

std::string first_line(const std::exception &problem) {
  const std::string text = problem.what();
  return text.substr(0, text.find('\n'));
}

// Without this, glibc returns the memory of large tensors after every step, and the next step begins with page faults.
void keep_freed_memory() {
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
}

using Function = std::unique_ptr<torch::inductor::AOTIModelPackageLoader>;

// Some receivers, as inputs of a function.
struct Tile {
  size_t first;   // number of the first receiver
  int64_t count;  // of receivers
  at::Tensor atoms, owners, senders, species, vectors;
};

class PairIK : public Pair {
 public:
  explicit PairIK(LAMMPS *lmp) : Pair(lmp) {
    if (strcmp(lmp->version, IK_LAMMPS_VERSION) != 0)
      error->all(FLERR, "the plug-in of pair_style ik_e3nn was built for LAMMPS {}, but this is LAMMPS {}: build it again",
                 IK_LAMMPS_VERSION, lmp->version);
    single_enable = restartinfo = 0;
    one_coeff = manybody_flag = no_virial_fdotr_compute = 1;
    centroidstressflag = CENTROID_NOTAVAIL;
  }

  ~PairIK() override {
    if (!allocated) return;
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }

  void settings(int narg, char **arg) override {
    if (narg != 0 && (narg != 2 || strcmp(arg[0], "max_edges") != 0))
      error->all(FLERR, "expected pair_style ik_e3nn, or pair_style ik_e3nn max_edges N; the model is named by pair_coeff");
    const int max_edges = narg == 0 ? MAX_EDGES : utils::inumeric(FLERR, arg[1], false, lmp);
    if (max_edges < 1) error->all(FLERR, "max_edges of pair_style ik_e3nn must be at least 1, got {}", max_edges);
    max_blocks = std::max(max_edges / WIDTH, 1);
  }

  void coeff(int narg, char **arg) override {
    const int types = atom->ntypes;
    if (narg != 3 + types || strcmp(arg[0], "*") != 0 || strcmp(arg[1], "*") != 0)
      error->all(FLERR, "expected pair_coeff * * model.pt2 and one element, or NULL, for each of the {} atom types", types);
    load(arg[2]);
    std::vector<std::string> known;
    std::istringstream words(metadata.at("ik_species"));
    for (std::string word; words >> word;) known.push_back(word);
    species_of_type.assign(types + 1, -1);
    for (int type = 1; type <= types; type++) {
      const std::string name = arg[2 + type];
      if (name == "NULL") continue;
      const auto place = std::find(known.begin(), known.end(), name);
      if (place == known.end())
        error->all(FLERR, "the model {} does not know {}, the element of atom type {}; it was made for {}", arg[2], name,
                   type, metadata.at("ik_species"));
      species_of_type[type] = place - known.begin();
    }
    if (!allocated) {
      allocated = 1;
      memory->create(setflag, types + 1, types + 1, "pair:setflag");
      memory->create(cutsq, types + 1, types + 1, "pair:cutsq");
    }
    for (int i = 1; i <= types; i++)
      for (int j = i; j <= types; j++) setflag[i][j] = species_of_type[i] >= 0 && species_of_type[j] >= 0;
    if (comm->me == 0)
      utils::logmesg(lmp, "ik_e3nn: {} ({}), cutoff {} A, {} interactions, {}, trained on {}\n", arg[2],
                     metadata.at("ik_species"), r_max, widths.size(), metadata.at("ik_dtype"), metadata.at("ik_trained_on"));
  }

  void init_style() override {
    if (strcmp(update->unit_style, "metal") == 0) to_energy = 1.0;
    else if (strcmp(update->unit_style, "real") == 0) to_energy = REAL_PER_METAL;
    else error->all(FLERR, "pair_style ik_e3nn needs units metal or real, got units {}", update->unit_style);
    if (!force->newton_pair) error->all(FLERR, "pair_style ik_e3nn needs newton on, because ghosts have forces");
    if (atom->molecular != Atom::ATOMIC)
      for (int k = 1; k <= 3; k++)
        if (force->special_lj[k] != 1.0 || force->special_coul[k] != 1.0)
          error->all(FLERR, "the model needs all neighbors, bonded ones too: set special_bonds lj/coul 1 1 1");
    if (neighbor->nex_type + neighbor->nex_group + neighbor->nex_mol > 0)
      error->all(FLERR, "the model needs all neighbors, but neigh_modify exclude leaves some out");
    warn_of_masses();
    neighbor->add_request(this, NeighConst::REQ_FULL);
    // A hybrid style, whose sizes LAMMPS's buffers have, was made before pair_coeff said what this one exchanges.
    force->pair->comm_forward = std::max(force->pair->comm_forward, comm_forward);
    force->pair->comm_reverse = std::max(force->pair->comm_reverse, comm_reverse);
  }

  double init_one(int, int) override { return r_max; }

  void compute(int eflag, int vflag) override {
    ev_init(eflag, vflag);
    const double start = now();
    find_edges();
    try {
      c10::InferenceMode guard;
      evaluate();
    } catch (const LAMMPSException &) {
      throw;
    } catch (const std::exception &problem) {
      error->one(FLERR, "the model failed: {}", first_line(problem));
    }
    time_total += now() - start;
    calls++;
    edges += senders.size();
  }

  // The share of the time that is not the model's, for the page on scaling.
  void finish() override {
    double mine[2] = {time_model, time_total}, slowest[2];
    MPI_Reduce(mine, slowest, 2, MPI_DOUBLE, MPI_MAX, 0, world);
    bigint counts[2] = {edges, static_cast<bigint>(calls) * (atom->nlocal + atom->nghost)}, sums[2];
    MPI_Reduce(counts, sums, 2, MPI_LMP_BIGINT, MPI_SUM, 0, world);
    if (comm->me == 0 && calls > 0)
      utils::logmesg(lmp,
                     "ik_e3nn: {} evaluations, {:.6g} s in the model, {:.6g} s in the pair style; {} edges, {} owned atoms "
                     "and ghosts on {} processes\n",
                     calls, slowest[0], slowest[1], sums[0] / calls, sums[1] / calls, comm->nprocs);
    time_model = time_total = 0.0;
    calls = 0;
    edges = 0;
  }

  // Rows of floating-point numbers, packed into the doubles that LAMMPS sends.
  int pack_forward_comm(int n, int *list, double *buffer, int, int *) override {
    for (int i = 0; i < n; i++) memcpy(buffer + i * width, row(list[i]), row_bytes);
    return n * width;
  }
  void unpack_forward_comm(int n, int first, double *buffer) override {
    for (int i = 0; i < n; i++) memcpy(row(first + i), buffer + i * width, row_bytes);
  }
  int pack_reverse_comm(int n, int first, double *buffer) override {
    for (int i = 0; i < n; i++) memcpy(buffer + i * width, row(first + i), row_bytes);
    return n * width;
  }
  void unpack_reverse_comm(int n, int *list, double *buffer) override {
    for (int i = 0; i < n; i++) {
      if (exchanged == at::kDouble) add_row<double>(list[i], buffer + i * width);
      else add_row<float>(list[i], buffer + i * width);
    }
  }

 private:
  std::unordered_map<std::string, std::string> metadata;
  std::vector<Function> features, gradients;  // of the interactions
  std::vector<int64_t> widths;                // numbers of features after the interactions
  at::ScalarType dtype = at::kFloat;
  double r_max = 0.0, to_energy = 1.0, energy = 0.0;
  bool has_places = false;
  int64_t max_blocks = 0;
  double free_directions[9];  // strains along the others are not defined, because surroundings fix positions
  std::vector<int> species_of_type;

  // the edges of this step, sorted by receiver: those of receivers[k] end at ends[k]
  std::vector<int> receivers, senders;
  std::vector<size_t> ends;
  std::vector<double> vectors;

  std::vector<int64_t> place;  // of each atom among those of a tile; -1 for the others

  // the rows that are exchanged at the moment
  char *rows = nullptr;
  int width = 0;
  size_t row_bytes = 0;
  at::ScalarType exchanged = at::kFloat;

  double time_model = 0.0, time_total = 0.0;
  bigint edges = 0;
  int calls = 0;

  void load(const char *path) {
    if (!platform::file_is_readable(path)) error->all(FLERR, "the model {} does not exist, or cannot be read", path);
    try {
      gradients.clear();
      features.clear();
      gradients.push_back(function(path, "gradients_0"));
      metadata = gradients[0]->get_metadata();
      if (metadata.count("ik_format") == 0) error->all(FLERR, "{} was not written by ik-e3nn export lammps", path);
      if (std::stoi(metadata.at("ik_format")) != FORMAT)
        error->all(FLERR, "{} has format {}, but this plug-in reads format {}: export the model again", path,
                   metadata.at("ik_format"), FORMAT);
      if (metadata.at("ik_torch") != TORCH_VERSION)
        error->all(FLERR, "{} was exported with torch {}, but the plug-in was built with torch {}: export the model again",
                   path, metadata.at("ik_torch"), TORCH_VERSION);
      r_max = std::stod(metadata.at("ik_r_max"));
      dtype = metadata.at("ik_dtype") == "float64" ? at::kDouble : at::kFloat;
      has_places = metadata.at("ik_places") == "1";
      std::istringstream numbers(metadata.at("ik_free_directions"));
      for (double &number : free_directions) numbers >> number;
      std::istringstream words(metadata.at("ik_widths"));
      widths.assign(std::istream_iterator<int64_t>(words), {});
      comm_forward = comm_reverse = 0;
      for (size_t t = 0; t + 1 < widths.size(); t++) {
        features.push_back(function(path, "features_" + std::to_string(t)));
        gradients.push_back(function(path, "gradients_" + std::to_string(t + 1)));
        comm_forward = comm_reverse = std::max(comm_forward, doubles_of(widths[t], dtype));
      }
      keep_freed_memory();
      at::set_num_threads(1);  // one process for each core; the package has code for one thread
    } catch (const LAMMPSException &) {
      throw;
    } catch (const std::exception &problem) {
      error->all(FLERR, "{} is not a file of ik-e3nn export lammps, or it is damaged ({})", path, first_line(problem));
    }
  }

  static Function function(const char *path, const std::string &name) {
    return std::make_unique<torch::inductor::AOTIModelPackageLoader>(path, name, true);
  }

  // The order of the elements in pair_coeff may be wrong.
  void warn_of_masses() const {
    if (!atom->mass || comm->me != 0) return;
    std::istringstream words(metadata.at("ik_masses")), names(metadata.at("ik_species"));
    const std::vector<double> masses(std::istream_iterator<double>(words), {});
    const std::vector<std::string> known(std::istream_iterator<std::string>(names), {});
    for (int type = 1; type <= atom->ntypes; type++) {
      if (species_of_type[type] < 0 || !atom->mass_setflag[type]) continue;
      const double mass = atom->mass[type];
      const auto nearest = std::min_element(masses.begin(), masses.end(),
                                            [&](double a, double b) { return std::fabs(a - mass) < std::fabs(b - mass); });
      const int other = nearest - masses.begin();
      if (other != species_of_type[type])
        error->warning(FLERR, "atom type {} is {} by pair_coeff, but its mass {:.6g} is that of {}: is the order of the "
                              "elements right?", type, known[species_of_type[type]], mass, known[other]);
    }
  }

  static int doubles_of(int64_t numbers, at::ScalarType type) {
    return static_cast<int>((numbers * c10::elementSize(type) + sizeof(double) - 1) / sizeof(double));
  }

  bool is_known(int i) const { return species_of_type[atom->type[i]] >= 0; }

  // Vectors point from senders to receivers, as in the library.
  void find_edges() {
    receivers.clear();
    senders.clear();
    ends.clear();
    vectors.clear();
    double **x = atom->x;
    for (int a = 0; a < list->inum; a++) {
      const int i = list->ilist[a];
      if (!is_known(i)) continue;
      for (int k = 0; k < list->numneigh[i]; k++) {
        const int j = list->firstneigh[i][k] & NEIGHMASK;
        const double d[3] = {x[i][0] - x[j][0], x[i][1] - x[j][1], x[i][2] - x[j][2]};
        const double square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
        if (square >= r_max * r_max || !is_known(j)) continue;
        if (square < SAME_PLACE * SAME_PLACE)
          error->one(FLERR, "atoms {} and {} are in the same place, so that the direction between them is undefined",
                     atom->tag[i], atom->tag[j]);
        senders.push_back(j);
        vectors.insert(vectors.end(), d, d + 3);
      }
      receivers.push_back(i);
      ends.push_back(senders.size());
    }
  }

  // Features of owned atoms and ghosts, or derivatives with respect to them, and a row for atoms without meaning.
  at::Tensor rows_of_atoms(int64_t columns) const {
    return at::zeros({atom->nlocal + atom->nghost + 1, columns}, at::TensorOptions().dtype(dtype));
  }

  // Energies and forces: first features through all interactions, then derivatives back through them.
  void evaluate() {
    const int nothing = atom->nlocal + atom->nghost, last = static_cast<int>(widths.size()) - 1;
    place.assign(nothing + 1, -1);
    std::vector<at::Tensor> x(last);
    for (int t = 0; t < last; t++) {
      x[t] = rows_of_atoms(widths[t]);
      for (size_t k = 0; k < receivers.size();) {
        const Tile tile = next_tile(k);
        const at::Tensor found = run(features[t], inputs(tile, t, t > 0 ? x[t - 1] : at::Tensor(), at::Tensor()))[0];
        x[t].index_copy_(0, tile.atoms.narrow(0, 0, tile.count), found.narrow(0, 0, tile.count));
        k += tile.count;
      }
      exchange(x[t], [this] { comm->forward_comm(this); });
    }
    at::Tensor gradient;  // of the energy with respect to x[t]
    energy = 0.0;
    for (int t = last; t >= 0; t--) {
      at::Tensor previous = t > 0 ? rows_of_atoms(widths[t - 1]) : at::Tensor();
      for (size_t k = 0; k < receivers.size();) {
        const Tile tile = next_tile(k);
        const std::vector<at::Tensor> found = run(gradients[t], inputs(tile, t, t > 0 ? x[t - 1] : at::Tensor(), gradient));
        size_t output = 0;
        add_energies(tile, found[output++]);
        if (t > 0) previous.index_add_(0, tile.atoms, found[output++]);
        add_forces(tile, found[output++]);
        if (has_places) add_forces_on_places(tile, found[output++]);
        k += tile.count;
      }
      if (t > 0) {
        previous[nothing].zero_();
        exchange(previous, [this] { comm->reverse_comm(this); });
      }
      gradient = previous;
    }
    if (!std::isfinite(energy))
      error->one(FLERR, "the energy of the model is NaN or infinite: atoms are too near to each other, or the time step is "
                        "too long");
    if (eflag_global) eng_vdwl += to_energy * energy;
  }

  std::vector<at::Tensor> run(const Function &function, const std::vector<at::Tensor> &tensors) {
    const double start = now();
    std::vector<at::Tensor> outputs = function->run(tensors);
    time_model += now() - start;
    return outputs;
  }

  // Receivers from number k on, with their edges in blocks, and all atoms of these edges: receivers, PAD atoms without
  // meaning, other senders.
  Tile next_tile(size_t k) {
    Tile tile{k, 0, {}, {}, {}, {}, {}};
    int64_t blocks = 0;
    std::vector<int64_t> atoms, owners;
    for (; k < receivers.size(); k++) {
      const int64_t own = (ends[k] - begin(k) + WIDTH - 1) / WIDTH;
      if (tile.count > 0 && blocks + own > max_blocks) break;
      owners.insert(owners.end(), own, tile.count);
      place[receivers[k]] = tile.count++;
      atoms.push_back(receivers[k]);
      blocks += own;
    }
    atoms.insert(atoms.end(), PAD, atom->nlocal + atom->nghost);
    owners.insert(owners.end(), PAD, tile.count + PAD - 1);
    blocks += PAD;
    const auto integers = at::TensorOptions().dtype(at::kLong);
    tile.senders = at::full({blocks, WIDTH}, tile.count, integers);
    at::Tensor vector = at::full({blocks, WIDTH, 3}, 2 * r_max, at::TensorOptions().dtype(at::kDouble));
    auto *sender = tile.senders.data_ptr<int64_t>();
    auto *to = vector.data_ptr<double>();
    for_edges(tile, [&](size_t e, int64_t slot, int) {
      const int j = senders[e];
      if (place[j] < 0) {
        place[j] = atoms.size();
        atoms.push_back(j);
      }
      sender[slot] = place[j];
      std::copy_n(&vectors[3 * e], 3, to + 3 * slot);
    });
    for (int64_t i : atoms) place[i] = -1;
    tile.atoms = at::tensor(atoms, integers);
    tile.owners = at::tensor(owners, integers);
    tile.vectors = vector.to(dtype);
    tile.species = at::zeros_like(tile.atoms);
    for (size_t row = 0; row < atoms.size(); row++)
      if (!is_padding(tile, row)) tile.species.data_ptr<int64_t>()[row] = species_of_type[atom->type[atoms[row]]];
    return tile;
  }

  static bool is_padding(const Tile &tile, int64_t row) { return row >= tile.count && row < tile.count + PAD; }

  size_t begin(size_t k) const { return k > 0 ? ends[k - 1] : 0; }

  // Call function(edge, slot in the blocks of the tile, receiver) for all edges of a tile.
  template <class Call> void for_edges(const Tile &tile, Call function) const {
    int64_t block = 0;
    for (size_t k = tile.first; k < tile.first + tile.count; k++) {
      const size_t first = begin(k);
      for (size_t e = first; e < ends[k]; e++) function(e, block * WIDTH + (e - first), receivers[k]);
      block += (ends[k] - first + WIDTH - 1) / WIDTH;
    }
  }

  // The inputs of a function of interaction t, in the alphabetical order of their names in the library.
  std::vector<at::Tensor> inputs(const Tile &tile, int t, const at::Tensor &x, const at::Tensor &gradient) const {
    std::vector<at::Tensor> tensors;
    if (t > 0) tensors.push_back(x.index_select(0, tile.atoms));
    if (gradient.defined()) tensors.push_back(gradient.index_select(0, tile.atoms.narrow(0, 0, tile.count + PAD)));
    tensors.push_back(at::empty({tile.count + PAD}, at::TensorOptions().dtype(at::kDouble)));
    tensors.push_back(tile.owners);
    if (has_places) {
      at::Tensor positions = at::zeros({tile.atoms.size(0), 3}, at::TensorOptions().dtype(at::kDouble));
      for (int64_t row = 0; row < tile.atoms.size(0); row++)
        if (!is_padding(tile, row)) std::copy_n(atom->x[tile.atoms.data_ptr<int64_t>()[row]], 3, positions.data_ptr<double>() + 3 * row);
      tensors.push_back(positions);
    }
    tensors.insert(tensors.end(), {tile.senders, tile.species, tile.vectors});
    return tensors;
  }

  void add_energies(const Tile &tile, const at::Tensor &energies) {
    const at::Tensor rows = energies.contiguous();
    for (int64_t row = 0; row < tile.count; row++) {
      const double e = rows.data_ptr<double>()[row];
      energy += e;
      if (eflag_atom) eatom[receivers[tile.first + row]] += to_energy * e;
    }
  }

  void add_forces(const Tile &tile, const at::Tensor &by_vectors) {
    const at::Tensor rows = by_vectors.to(at::kDouble).contiguous();
    const double *derivative = rows.data_ptr<double>();
    double **f = atom->f;
    for_edges(tile, [&](size_t e, int64_t slot, int i) {
      const double *g = derivative + 3 * slot;
      const int j = senders[e];
      for (int c = 0; c < 3; c++) {
        f[i][c] -= to_energy * g[c];
        f[j][c] += to_energy * g[c];
      }
      if (vflag_either) add_virial(i, j, &vectors[3 * e], g);
    });
  }

  void add_forces_on_places(const Tile &tile, const at::Tensor &by_places) {
    const at::Tensor rows = by_places.to(at::kDouble).contiguous();
    for (int64_t row = 0; row < tile.atoms.size(0); row++) {
      if (is_padding(tile, row)) continue;
      double *f = atom->f[tile.atoms.data_ptr<int64_t>()[row]];
      for (int c = 0; c < 3; c++) f[c] -= to_energy * rows.data_ptr<double>()[3 * row + c];
    }
  }

  // W = -P sym(r g) P, with the projector P on the directions in which strains are defined; xx yy zz xy xz yz.
  void add_virial(int i, int j, const double *r, const double *g) {
    double along_r[3] = {0, 0, 0}, along_g[3] = {0, 0, 0};
    for (int a = 0; a < 3; a++)
      for (int b = 0; b < 3; b++) {
        along_r[a] += free_directions[3 * a + b] * r[b];
        along_g[a] += free_directions[3 * a + b] * g[b];
      }
    static constexpr int first[6] = {0, 1, 2, 0, 0, 1}, second[6] = {0, 1, 2, 1, 2, 2};
    for (int c = 0; c < 6; c++) {
      const int a = first[c], b = second[c];
      const double w = -0.5 * to_energy * (along_r[a] * along_g[b] + along_r[b] * along_g[a]);
      if (vflag_global) virial[c] += w;
      if (vflag_atom) {
        vatom[i][c] += 0.5 * w;
        vatom[j][c] += 0.5 * w;
      }
    }
  }

  void *row(int i) { return rows + i * row_bytes; }

  template <class Number> void add_row(int i, const double *buffer) {
    auto *to = static_cast<Number *>(row(i));
    const auto *from = reinterpret_cast<const Number *>(buffer);
    for (size_t c = 0; c < row_bytes / sizeof(Number); c++) to[c] += from[c];
  }

  template <class Communicate> void exchange(at::Tensor &all, Communicate communicate) {
    exchanged = all.scalar_type();
    rows = static_cast<char *>(all.data_ptr());
    row_bytes = all.size(1) * all.element_size();
    width = doubles_of(all.size(1), exchanged);
    communicate();
    rows = nullptr;
  }
};

}  // namespace

// LAMMPS's interface of plug-ins; its header lammpsplugin.h is not among the headers that LAMMPS installs.
extern "C" {
typedef void *(lammpsplugin_factory1)(void *);
typedef void *(lammpsplugin_factory2)(void *, int, char **);
struct lammpsplugin_t {
  const char *version, *style, *name, *info, *author;
  union {
    lammpsplugin_factory1 *v1;
    lammpsplugin_factory2 *v2;
  } creator;
  void *handle;
};
typedef void (*lammpsplugin_regfunc)(lammpsplugin_t *, void *);

static void *create_pair(void *lmp) { return new PairIK(static_cast<LAMMPS *>(lmp)); }

void ik_e3nn_init(void *lmp, void *handle, void *regfunc) {
  lammpsplugin_t plugin{IK_LAMMPS_VERSION, "pair", "ik_e3nn", "ik_e3nn potentials", "ik_e3nn",
                        {create_pair}, handle};
  reinterpret_cast<lammpsplugin_regfunc>(regfunc)(&plugin, lmp);
}
}
