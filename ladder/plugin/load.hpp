// A user's kernel as a rung: loads a plug-in (capi/plugin.h) and calls its functions behind the ladder's own interface.
#pragma once

#include <functional>
#include <string>

#include "ladder/rung.hpp"

namespace flashladder::ladder {

// Told the name of a plug-in's function before it is called, and "" when it has returned: so that whoever watches the
// process can say where it died.
using OnCall = std::function<void(const char* function)>;

inline constexpr const char* plugins_attend = "op mla: a plug-in computes attention, and gets no latent rows";

// The rung must equal C4. The library stays loaded until the process ends. Throws InputError for a file that is no plug-in
// of this version; the rung's functions throw std::runtime_error with what the plug-in said.
Rung load_plugin(const std::string& path, const OnCall& on_call = {});

// Whether a plug-in can be told this case: neither plugin.h nor Python's attention() has words for fp8 or scales.
Support takes_plugin(const CaseSpec& spec);

}  // namespace flashladder::ladder
