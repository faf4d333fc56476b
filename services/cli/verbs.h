// The verbs of the command line. Each adds its subcommand with its flags; when the command line
// names it, it sets context.action.
#pragma once

#include "services/cli/context.h"

namespace rollcall {

void AddUp(CLI::App& app, Context& context);
void AddDown(CLI::App& app, Context& context);
void AddCheck(CLI::App& app, Context& context);
void AddPlan(CLI::App& app, Context& context);
void AddSubmit(CLI::App& app, Context& context);
void AddList(CLI::App& app, Context& context);
void AddStatus(CLI::App& app, Context& context);
void AddWatch(CLI::App& app, Context& context);
void AddLogs(CLI::App& app, Context& context);
void AddInspect(CLI::App& app, Context& context);
// pause, resume, cancel
void AddControl(CLI::App& app, Context& context);
void AddExport(CLI::App& app, Context& context);
void AddConvert(CLI::App& app, Context& context);
void AddInitModel(CLI::App& app, Context& context);
void AddServe(CLI::App& app, Context& context);
void AddSchema(CLI::App& app, Context& context);
void AddVersion(CLI::App& app, Context& context);

}  // namespace rollcall
