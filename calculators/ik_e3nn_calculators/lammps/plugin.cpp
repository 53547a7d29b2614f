// What LAMMPS loads: it loads the pair style beside it, with libraries that take their own symbols first.
//
// LAMMPS contains functions of LAPACK and BLAS under their usual names. Linked into LAMMPS directly, torch would call
// these slower ones instead of its own, and a step in float64 would take twice as long.

#include <dlfcn.h>

#include <cstdio>
#include <string>

extern "C" void lammpsplugin_init(void *lmp, void *handle, void *regfunc) {
  Dl_info here;
  dladdr(reinterpret_cast<void *>(&lammpsplugin_init), &here);
  const std::string path = here.dli_fname;
  const std::string library = path.substr(0, path.rfind('/') + 1) + "pair_ik_e3nn.so";
  void *loaded = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  void *init = loaded ? dlsym(loaded, "ik_e3nn_init") : nullptr;
  if (init) reinterpret_cast<void (*)(void *, void *, void *)>(init)(lmp, handle, regfunc);
  else fprintf(stderr, "pair_style ik_e3nn cannot be loaded: %s\n", dlerror());
}
