// Pair style ik_e3nn of LAMMPS: a potential exported by `ik-e3nn export lammps`.
//
//   pair_style ik_e3nn
//   pair_coeff * * model.pt2 C H O NULL     an element for each atom type; atoms of type NULL are ignored
//
// The package model.pt2 is machine code: no Python is needed. Each process computes its owned atoms. Features of ghosts
// come from their owners before every interaction but the first: the package calls the operators `forward` and
// `reverse`, which are defined below with the communication of LAMMPS.

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
#include "update.h"
#include "utils.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/library.h>
#include <torch/version.h>

#include <cmath>
#include <cstring>
#if defined(__GLIBC__)
#include <malloc.h>
#endif
#include <memory>
#include <sstream>
#include <string>
#include <vector>

using namespace LAMMPS_NS;

namespace {

constexpr int FORMAT = 1;                    // of the metadata of packages
constexpr int WIDTH = 8;                     // edges in a block; all of them have the same receiver
constexpr int PAD = 2;                       // atoms and blocks without meaning: compiled code needs at least two of each
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

class PairIK : public Pair {
 public:
  explicit PairIK(LAMMPS *lmp) : Pair(lmp) {
    single_enable = restartinfo = 0;
    one_coeff = manybody_flag = no_virial_fdotr_compute = 1;
    centroidstressflag = CENTROID_NOTAVAIL;
  }

  ~PairIK() override {
    if (!allocated) return;
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }

  void settings(int narg, char **) override {
    if (narg > 0) error->all(FLERR, "pair_style ik_e3nn takes no arguments; the model is named by pair_coeff");
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
      utils::logmesg(lmp, "ik_e3nn: {} ({}), cutoff {} A, {} interactions, {}\n", arg[2], metadata.at("ik_species"), r_max,
                     metadata.at("ik_layers"), metadata.at("ik_dtype"));
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
    neighbor->add_request(this, NeighConst::REQ_FULL);
  }

  double init_one(int, int) override { return r_max; }

  void compute(int eflag, int vflag) override {
    ev_init(eflag, vflag);
    const double start = now();
    find_edges();
    const std::vector<at::Tensor> inputs = tensors();
    current = this;
    time_exchange = 0.0;
    const double ready = now();
    std::vector<at::Tensor> outputs;
    try {
      c10::InferenceMode guard;
      outputs = package->run(inputs);
    } catch (const std::exception &problem) {
      error->one(FLERR, "the model failed: {}", first_line(problem));
    }
    time_model += now() - ready - time_exchange;
    add(outputs);
    time_total += now() - start;
    calls++;
    edges += receivers.size();
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

  // The operators of the package, for the pair style that is computing.
  static PairIK *current;

  at::Tensor forward(const at::Tensor &x, int64_t rows_of_all) {
    at::Tensor all = at::zeros({rows_of_all, x.size(1)}, x.options());
    all.narrow(0, 0, x.size(0)).copy_(x);
    exchange(all, [this] { comm->forward_comm(this); });
    return all;
  }

  at::Tensor reverse(const at::Tensor &gradient, int64_t rows_of_owned) {
    at::Tensor all = gradient.contiguous().clone();
    exchange(all, [this] { comm->reverse_comm(this); });
    return all.narrow(0, 0, rows_of_owned).clone();
  }

 private:
  std::unordered_map<std::string, std::string> metadata;
  std::unique_ptr<torch::inductor::AOTIModelPackageLoader> package;
  at::ScalarType dtype = at::kFloat;
  double r_max = 0.0, to_energy = 1.0;
  bool has_places = false;
  double free_directions[9];  // strains along the others are not defined, because surroundings fix positions
  std::vector<int> species_of_type;

  // the edges of this step, sorted by receiver, and the place of each in the blocks
  std::vector<int> senders, receivers;
  std::vector<int64_t> slots;
  std::vector<double> vectors;

  // the rows that are exchanged at the moment
  char *rows = nullptr;
  int width = 0;
  size_t row_bytes = 0;
  at::ScalarType exchanged = at::kFloat;

  double time_model = 0.0, time_total = 0.0, time_exchange = 0.0;
  bigint edges = 0;
  int calls = 0;

  void load(const char *path) {
    try {
      package = std::make_unique<torch::inductor::AOTIModelPackageLoader>(path, "model", true);
      metadata = package->get_metadata();
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
      comm_forward = comm_reverse = doubles_of(std::stoi(metadata.at("ik_exchanged")), dtype);
      keep_freed_memory();
      at::set_num_threads(1);  // one process for each core; the package has code for one thread
    } catch (const LAMMPSException &) {
      throw;
    } catch (const std::exception &problem) {
      error->all(FLERR, "the model {} cannot be loaded: {}", path, first_line(problem));
    }
  }

  static int doubles_of(int64_t numbers, at::ScalarType type) {
    return static_cast<int>((numbers * c10::elementSize(type) + sizeof(double) - 1) / sizeof(double));
  }

  bool is_known(int i) const { return species_of_type[atom->type[i]] >= 0; }

  // Vectors point from senders to receivers, as in the library.
  void find_edges() {
    senders.clear();
    receivers.clear();
    vectors.clear();
    double **x = atom->x;
    for (int a = 0; a < list->inum; a++) {
      const int i = list->ilist[a];
      if (!is_known(i)) continue;
      for (int k = 0; k < list->numneigh[i]; k++) {
        const int j = list->firstneigh[i][k] & NEIGHMASK;
        const double d[3] = {x[i][0] - x[j][0], x[i][1] - x[j][1], x[i][2] - x[j][2]};
        if (d[0] * d[0] + d[1] * d[1] + d[2] * d[2] >= r_max * r_max || !is_known(j)) continue;
        senders.push_back(j);
        receivers.push_back(i);
        vectors.insert(vectors.end(), d, d + 3);
      }
    }
  }

  // Rows of tensors: owned atoms, PAD atoms without meaning, ghosts.
  int64_t row_of(int i) const { return i < atom->nlocal ? i : i + PAD; }

  // The inputs of the package, in the alphabetical order of their names in ik_e3nn.graph.fields.
  std::vector<at::Tensor> tensors() {
    const int owned = atom->nlocal;
    const int64_t all = owned + PAD + atom->nghost;
    std::vector<int64_t> degree(owned, 0), block(owned + 1, 0), filled(owned, 0);
    for (int i : receivers) degree[i]++;
    for (int i = 0; i < owned; i++) block[i + 1] = block[i] + (degree[i] + WIDTH - 1) / WIDTH;
    const int64_t blocks = block[owned] + PAD;
    const auto integers = at::TensorOptions().dtype(at::kLong);
    const auto numbers = at::TensorOptions().dtype(at::kDouble);
    at::Tensor species = at::zeros({all}, integers), owner = at::full({blocks}, owned + PAD - 1, integers);
    at::Tensor sender = at::full({blocks, WIDTH}, owned, integers), vector = at::full({blocks, WIDTH, 3}, 2 * r_max, numbers);
    auto *species_data = species.data_ptr<int64_t>(), *owner_data = owner.data_ptr<int64_t>();
    auto *sender_data = sender.data_ptr<int64_t>();
    auto *vector_data = vector.data_ptr<double>();
    for (int i = 0; i < owned + atom->nghost; i++)
      if (is_known(i)) species_data[row_of(i)] = species_of_type[atom->type[i]];
    for (int i = 0; i < owned; i++) std::fill(owner_data + block[i], owner_data + block[i + 1], i);
    slots.resize(receivers.size());
    for (size_t e = 0; e < receivers.size(); e++) {
      const int i = receivers[e];
      const int64_t slot = slots[e] = block[i] * WIDTH + filled[i]++;
      sender_data[slot] = row_of(senders[e]);
      std::copy_n(&vectors[3 * e], 3, vector_data + 3 * slot);
    }
    std::vector<at::Tensor> inputs = {at::empty({owned + PAD}, numbers), owner, sender, species, vector.to(dtype)};
    if (has_places) {
      at::Tensor positions = at::zeros({all, 3}, numbers);
      for (int i = 0; i < owned + atom->nghost; i++) std::copy_n(atom->x[i], 3, positions.data_ptr<double>() + 3 * row_of(i));
      inputs.insert(inputs.begin() + 2, positions);
    }
    return inputs;
  }

  // Add energies, forces and virials from energies of atoms and derivatives by edge vectors (and positions).
  void add(const std::vector<at::Tensor> &outputs) {
    const at::Tensor energies = outputs[0].to(at::kDouble).contiguous(), by_edges = outputs[1].to(at::kDouble).contiguous();
    const double *energy = energies.data_ptr<double>(), *derivative = by_edges.data_ptr<double>();
    double **f = atom->f;
    double total = 0.0;
    for (int i = 0; i < atom->nlocal; i++) {
      if (!is_known(i)) continue;
      total += energy[i];
      if (eflag_atom) eatom[i] += to_energy * energy[i];
    }
    for (size_t e = 0; e < receivers.size(); e++) {
      const double *g = derivative + 3 * slots[e], *r = &vectors[3 * e];
      const int i = receivers[e], j = senders[e];
      for (int c = 0; c < 3; c++) {
        f[i][c] -= to_energy * g[c];
        f[j][c] += to_energy * g[c];
      }
      if (vflag_either) add_virial(i, j, r, g);
    }
    if (has_places) {
      const at::Tensor by_places = outputs[2].to(at::kDouble).contiguous();
      for (int i = 0; i < atom->nlocal + atom->nghost; i++)
        for (int c = 0; c < 3; c++) f[i][c] -= to_energy * by_places.data_ptr<double>()[3 * row_of(i) + c];
    }
    if (!std::isfinite(total))
      error->one(FLERR, "the energy of the model is NaN or infinite: atoms are too near to each other, or the time step is "
                        "too long");
    if (eflag_global) eng_vdwl += to_energy * total;
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

  void *row(int i) { return rows + row_of(i) * row_bytes; }

  template <class Number> void add_row(int i, const double *buffer) {
    auto *to = static_cast<Number *>(row(i));
    const auto *from = reinterpret_cast<const Number *>(buffer);
    for (size_t c = 0; c < row_bytes / sizeof(Number); c++) to[c] += from[c];
  }

  template <class Communicate> void exchange(at::Tensor &all, Communicate communicate) {
    const double start = now();
    exchanged = all.scalar_type();
    rows = static_cast<char *>(all.data_ptr());
    row_bytes = all.size(1) * all.element_size();
    width = doubles_of(all.size(1), exchanged);
    if (width > comm_forward) error->one(FLERR, "the package exchanges more features than it announced");
    communicate();
    rows = nullptr;
    time_exchange += now() - start;
  }
};

PairIK *PairIK::current = nullptr;

PairIK &computing() {
  TORCH_CHECK(PairIK::current != nullptr, "this package can only be used by pair_style ik_e3nn");
  return *PairIK::current;
}

// The operators are defined by Python too, where the library has exported a model in the same process.
void define_operators() {
  static std::unique_ptr<torch::Library> library;
  if (library) return;
  library = std::make_unique<torch::Library>(torch::Library::FRAGMENT, "ik_e3nn_lammps", std::nullopt, __FILE__, __LINE__);
  if (!c10::Dispatcher::singleton().findSchema({"ik_e3nn_lammps::forward", ""})) {
    library->def("forward(Tensor x, Tensor atoms) -> Tensor");
    library->def("reverse(Tensor gradient, Tensor owned) -> Tensor");
  }
  library->impl("forward", torch::dispatch(c10::DispatchKey::CPU, [](const at::Tensor &x, const at::Tensor &atoms) {
                  return computing().forward(x, atoms.size(0));
                }));
  library->impl("reverse", torch::dispatch(c10::DispatchKey::CPU, [](const at::Tensor &gradient, const at::Tensor &owned) {
                  return computing().reverse(gradient, owned.size(0));
                }));
}

Pair *create(LAMMPS *lmp) {
  define_operators();
  return new PairIK(lmp);
}

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

static void *create_pair(void *lmp) { return create(static_cast<LAMMPS *>(lmp)); }

void ik_e3nn_init(void *lmp, void *handle, void *regfunc) {
  lammpsplugin_t plugin{static_cast<LAMMPS *>(lmp)->version, "pair", "ik_e3nn", "ik_e3nn potentials", "ik_e3nn",
                        {create_pair}, handle};
  reinterpret_cast<lammpsplugin_regfunc>(regfunc)(&plugin, lmp);
}
}
